/* A stand-in for libnvidia-ml.so.1: the functions that pynvml calls for this node, with a driver made of text.
 *
 * The file named by FSM_NVML_SCENARIO is read again at each call, so that a test changes the hardware
 * between two calls of a running process. One fact a line (see stand_in.py, which writes it):
 *
 *   driver TEXT                      nvmlSystemGetDriverVersion
 *   cuda NUMBER                      nvmlSystemGetCudaDriverVersion_v2, 0: function not known to this driver
 *   init CODE                        what nvmlInitWithFlags returns
 *   generation NUMBER                another one than at init: the driver was reloaded, the session is void
 *   hang FUNCTION                    that function blocks for as long as the line stands
 *   card MINOR UUID TOTAL FREE MIG CODE AFTER NAME
 *                                    sizes in MiB; MIG 0 off, 1 on, -1 not supported; after AFTER calls about
 *                                    this card in this process, every further one returns CODE (0: works)
 *   instance CARD SLOT GI CI UUID TOTAL FREE NAME
 *
 * As with the real library, a lost card stays lost until the library is initialised again.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API __attribute__((visibility("default")))
#define CARDS 64
#define SLOTS 7

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15
};

typedef struct {
    int present, gi, ci;
    unsigned long long total, free;
    char uuid[80], name[96];
} Instance;

typedef struct {
    int minor, mig, code, after;
    unsigned long long total, free;
    char uuid[80], name[96];
    Instance slots[SLOTS];
} Card;

typedef struct {
    char driver[80], hang[80];
    int cuda, init, generation, cards;
    Card card[CARDS];
} Scenario;

typedef struct {
    unsigned long long total, free, used;
} Memory;

static int initialised, generation_at_init, calls[CARDS], lost[CARDS];
static char device_space[CARDS][SLOTS + 1]; /* a handle is an address in here: [card][0] or [card][slot + 1] */

static void parse(Scenario *s, char *line) {
    Card c;
    Instance i;
    int card, slot;
    memset(&c, 0, sizeof c);
    memset(&i, 0, sizeof i);
    if (sscanf(line, "driver %79s", s->driver) == 1 || sscanf(line, "cuda %d", &s->cuda) == 1 ||
        sscanf(line, "init %d", &s->init) == 1 || sscanf(line, "generation %d", &s->generation) == 1 ||
        sscanf(line, "hang %79s", s->hang) == 1)
        return;
    if (sscanf(line, "card %d %79s %llu %llu %d %d %d %95[^\n]", &c.minor, c.uuid, &c.total, &c.free, &c.mig, &c.code,
               &c.after, c.name) == 8) {
        if (s->cards < CARDS)
            s->card[s->cards++] = c;
        return;
    }
    if (sscanf(line, "instance %d %d %d %d %79s %llu %llu %95[^\n]", &card, &slot, &i.gi, &i.ci, i.uuid, &i.total,
               &i.free, i.name) == 8 &&
        card >= 0 && card < s->cards && slot >= 0 && slot < SLOTS) {
        i.present = 1;
        s->card[card].slots[slot] = i;
        return;
    }
    fprintf(stderr, "nvml stand-in: not understood: %s", line);
    abort();
}

static void load(Scenario *s) {
    char line[512];
    const char *path = getenv("FSM_NVML_SCENARIO");
    FILE *file = path ? fopen(path, "re") : NULL;
    memset(s, 0, sizeof *s);
    if (!file) {
        fprintf(stderr, "nvml stand-in: FSM_NVML_SCENARIO names no readable file\n");
        abort();
    }
    while (fgets(line, sizeof line, file))
        parse(s, line);
    fclose(file);
}

/* Loads the scenario, and blocks while it says that `function` hangs. */
static void enter(Scenario *s, const char *function) {
    const struct timespec pause = {0, 5000000};
    load(s);
    while (strcmp(s->hang, function) == 0) {
        nanosleep(&pause, NULL);
        load(s);
    }
}

static int session(Scenario *s, const char *function) {
    enter(s, function);
    return initialised && s->generation == generation_at_init ? SUCCESS : UNINITIALIZED;
}

/* Finds what `handle` stands for; `slot` is -1 for a card. */
static int device(Scenario *s, const char *function, const char *handle, Card **card, int *slot) {
    int code = session(s, function);
    ptrdiff_t offset = handle - &device_space[0][0];
    int index;
    if (code)
        return code;
    if (offset < 0 || offset >= (ptrdiff_t)sizeof device_space)
        return INVALID_ARGUMENT;
    index = (int)(offset / (SLOTS + 1));
    *slot = (int)(offset % (SLOTS + 1)) - 1;
    if (index >= s->cards)
        return lost[index] = GPU_IS_LOST;
    *card = &s->card[index];
    if (lost[index])
        return lost[index];
    if ((*card)->code && calls[index]++ >= (*card)->after)
        return lost[index] = (*card)->code;
    return *slot >= 0 && !(*card)->slots[*slot].present ? NOT_FOUND : SUCCESS;
}

static int put(char *buffer, unsigned length, const char *text) {
    if (strlen(text) >= length)
        return 7; /* NVML_ERROR_INSUFFICIENT_SIZE */
    strcpy(buffer, text);
    return SUCCESS;
}

API int nvmlInitWithFlags(unsigned flags) {
    Scenario s;
    (void)flags;
    enter(&s, __func__);
    if (s.init)
        return s.init;
    initialised = 1;
    generation_at_init = s.generation;
    memset(lost, 0, sizeof lost);
    return SUCCESS;
}

API int nvmlShutdown(void) {
    Scenario s;
    int code = session(&s, __func__);
    initialised = 0;
    return code;
}

API const char *nvmlErrorString(int code) {
    static char text[32];
    snprintf(text, sizeof text, "stand-in error %d", code);
    return text;
}

API int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    Scenario s;
    int code = session(&s, __func__);
    return code ? code : put(version, length, s.driver);
}

API int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    Scenario s;
    enter(&s, __func__); /* the real one too needs no session */
    *version = s.cuda;
    return s.cuda ? SUCCESS : FUNCTION_NOT_FOUND;
}

API int nvmlDeviceGetCount_v2(unsigned *count) {
    Scenario s;
    int code = session(&s, __func__);
    *count = (unsigned)s.cards;
    return code;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    Scenario s;
    Card *card;
    int slot;
    if (index >= CARDS)
        return INVALID_ARGUMENT;
    *handle = &device_space[index][0];
    return device(&s, __func__, *handle, &card, &slot);
}

API int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    Scenario s;
    Card *card;
    int slot, code = device(&s, __func__, handle, &card, &slot);
    return code ? code : put(name, length, slot < 0 ? card->name : card->slots[slot].name);
}

API int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    Scenario s;
    Card *card;
    int slot, code = device(&s, __func__, handle, &card, &slot);
    return code ? code : put(uuid, length, slot < 0 ? card->uuid : card->slots[slot].uuid);
}

API int nvmlDeviceGetMinorNumber(void *handle, unsigned *minor) {
    Scenario s;
    Card *card;
    int slot, code = device(&s, __func__, handle, &card, &slot);
    if (!code && slot >= 0)
        return INVALID_ARGUMENT;
    if (!code)
        *minor = (unsigned)card->minor;
    return code;
}

API int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    Scenario s;
    Card *card;
    int slot, code = device(&s, __func__, handle, &card, &slot);
    if (code)
        return code;
    memory->total = (slot < 0 ? card->total : card->slots[slot].total) << 20;
    memory->free = (slot < 0 ? card->free : card->slots[slot].free) << 20;
    memory->used = memory->total - memory->free;
    return SUCCESS;
}

API int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    Scenario s;
    Card *card;
    int slot, code = device(&s, __func__, handle, &card, &slot);
    if (code)
        return code;
    if (card->mig < 0)
        return NOT_SUPPORTED;
    *current = *pending = (unsigned)card->mig;
    return SUCCESS;
}

API int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    Scenario s;
    Card *card;
    int slot, code = device(&s, __func__, handle, &card, &slot);
    if (!code)
        *count = SLOTS;
    return code;
}

API int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **instance) {
    Scenario s;
    Card *card;
    int slot, code = device(&s, __func__, handle, &card, &slot);
    if (code)
        return code;
    if (slot >= 0 || index >= SLOTS)
        return INVALID_ARGUMENT;
    if (!card->slots[index].present)
        return NOT_FOUND;
    *instance = (char *)handle + index + 1;
    return SUCCESS;
}

API int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) {
    Scenario s;
    Card *card;
    int slot, code = device(&s, __func__, handle, &card, &slot);
    if (!code && slot < 0)
        return NOT_FOUND;
    if (!code)
        *id = (unsigned)card->slots[slot].gi;
    return code;
}

API int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *id) {
    Scenario s;
    Card *card;
    int slot, code = device(&s, __func__, handle, &card, &slot);
    if (!code && slot < 0)
        return NOT_FOUND;
    if (!code)
        *id = (unsigned)card->slots[slot].ci;
    return code;
}
