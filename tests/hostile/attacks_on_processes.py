"""Outliving its end, and reaching other processes."""

from tests.hostile.attack import attack

__all__ = ["PROCESSES"]

PROCESSES = (
    attack(
        "double fork",
        "a process that outlives the job: fork, setsid, fork",
        "it dies with the job",
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(300)\n"
        "    os._exit(0)\nsay('left')",
        lines=("left",),
    ),
    attack(
        "time-out",
        "to go on computing after its time",
        "ended at the time limit",
        "while True: pass",
        code="E_TIMEOUT",
        more={"timeout_s": 1},
    ),
    attack(
        "cancel",
        "to compute until it is cancelled",
        "ended when the coordinator says so",
        "say('computing')\nwhile True: pass",
        cancel=True,
        code="E_CANCELLED",
        lines=("computing",),
    ),
    attack(
        "ignoring SIGTERM",
        "to outlive its cancellation by ignoring signals",
        "killed after the grace period",
        "for number in set(range(1, 32)) - {9, 19}: attempt(signal.signal, number, signal.SIG_IGN)\n"
        "say('deaf')\nwhile True: time.sleep(1)",
        cancel=True,
        code="E_CANCELLED",
        lines=("deaf",),
    ),
    attack(
        "stopped processes",
        "to outlive its time limit by stopping itself",
        "ended at the time limit all the same",
        "say('stopping'); os.kill(os.getpid(), signal.SIGSTOP); time.sleep(60)",
        code="E_TIMEOUT",
        more={"timeout_s": 2},
    ),
    attack(
        "kill everything",
        "kill -9 -1",
        "it kills nobody but itself",
        "pid = os.fork()\nif pid == 0: time.sleep(60)\nos.kill(-1, 9)\n"
        "say('alive, its child is dead:', os.waitpid(pid, 0)[1])",
        lines=("alive, its child is dead: 9",),
    ),
    attack(
        "killing the sandbox",
        "SIGKILL to process 1 of its sandbox",
        "the kernel shields a namespace's first process",
        "os.kill(1, 9); time.sleep(0.2); say('still here')",
        lines=("still here",),
    ),
    attack(
        "ptrace",
        "to trace process 1, and to read its memory",
        "refused",
        "say(call(101, 16, 1, 0, 0), call(310, 1, 0, 0, 0, 0, 0), call(438, os.pidfd_open(1), 3, 0))",
        lines=("EPERM EPERM EPERM",),
    ),
    attack(
        "other processes",
        "to see the processes of the host",
        "it sees its own and the sandbox's first",
        "say(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()) == [1, os.getpid()])",
        lines=("True",),
    ),
    attack(
        "typing into the terminal",
        "TIOCSTI on the daemon's terminal",
        "there is no terminal, and the call is refused",
        "import fcntl\nsay(attempt(os.open, '/dev/tty', os.O_RDWR), attempt(fcntl.ioctl, 0, 0x5412, b'x'))",
        lines=("ENXIO EPERM",),
    ),
)
