"""Arguments, variables and media by which a job would have an allowed program do what its rule does not allow.

For ffmpeg every way that its documentation knows to read or write a file of one's choice, to reach a host, or to load
code (ffmpeg-all(1), ffmpeg-protocols(1), ffmpeg-formats(1), ffmpeg-filters(1), ffmpeg-bitstream-filters(1)).
"""

__all__ = ["COUNTED", "FFMPEG", "LIES", "VARIABLES", "WHISPER", "ffmpeg", "whisper"]


def ffmpeg(*args, **more):
    return {"runner": "cli", "command": "ffmpeg", "timeout_s": 30, "args": list(args), **more}


def whisper(*args, **more):
    return {"runner": "cli", "command": "whisper", "timeout_s": 30, "args": list(args), **more}


def _words(text):
    return tuple(text.split())


_PROTOCOLS = _words(
    """
async:cache:http://127.0.0.1/a amqp://h/a bluray:/a cache:http://127.0.0.1/a concat:/etc/passwd|b
concatf:list crypto:/etc/passwd crypto+file:/etc/passwd data:text/plain;base64,AAAA dtls://h:1 fd:0
ffrtmphttp://h/a file:/etc/passwd ftp://h/a gopher://h/a gophers://h/a hls+http://h/a hls+file:/etc/passwd
http://169.254.169.254/a httpproxy://h/a https://h/a icecast://h/a ipfs://h ipns://h md5:/tmp/a mmsh://h/a
mmst://h/a pipe:0 pipe:3 prompeg://h rist://h:1 rtmp://h/a rtmps://h/a rtmpt://h/a rtp://h:1 rtsp://h/a
sap://h sctp://h:1 sftp://h/a smb://h/a srt://h:1 srtp://h:1 subfile,,start,0,end,0,,:/etc/passwd
tcp://127.0.0.1:1 tee:/tmp/a|/tmp/b tls://h:1 udp://h:1 udplite://h:1 unix:/run/a zmq:tcp://h:1
"""
)

_INPUT_FORMATS = _words(
    """
alsa concat dash dshow ffmetadata fbdev gdigrab hls image2 imf kmsgrab lavfi libcdio libopenmpt openal pulse
rtsp sap sdp v4l2 vapoursynth webm_dash_manifest x11grab
"""
)

_OUTPUT_FORMATS = _words(
    """
caca crc dash fifo framehash hds hls image2 opengl rtp rtp_mpegts rtsp sap sdl segment smoothstreaming
ssegment stream_segment tee webm_chunk webm_dash_manifest xv
"""
)

_VIDEO_FILTERS = (
    "movie=/etc/passwd",
    "scale=10:10,movie=a",
    "subtitles=/etc/passwd",
    "ass=a",
    "drawtext=textfile=/etc/passwd",
    "drawtext=fontfile=/etc/passwd:text=a",
    "drawtext=text=%{metadata}",
    "lut3d=/etc/passwd",
    "lut1d=file=/etc/passwd",
    "haldclutsrc=file=a",
    "curves=psfile=/etc/passwd",
    "curves=plot=/tmp/a",
    "sendcmd=f=/etc/passwd",
    "sendcmd=c=0 a b c",
    "zmq=bind_address=tcp\\://*\\:1",
    "frei0r=/tmp/a.so",
    "frei0r_src=filter_name=/tmp/a",
    "metadata=print:file=/tmp/a",
    "psnr=stats_file=/tmp/a",
    "ssim=stats_file=/tmp/a",
    "vmafmotion=stats_file=/tmp/a",
    "libvmaf=model_path=/etc/passwd",
    "vidstabdetect=result=/tmp/a",
    "vidstabtransform=input=/etc/passwd",
    "deshake=filename=/tmp/a",
    "signature=filename=/tmp/a",
    "identity=stats_file=/tmp/a",
    "ocr=datapath=/etc",
    "dnn_processing=model=/etc/passwd",
    "derain=model=/tmp/a",
    "sr=model=/tmp/a",
    "dnn_detect=model=/tmp/a",
    "removelogo=/etc/passwd",
    "find_rect=/etc/passwd",
    "cover_rect=/etc/passwd",
    "program_opencl=source=/etc/passwd",
    "libplacebo=custom_shader_path=/etc/passwd",
    "nnedi=weights=/etc/passwd",
    "geq=lum='st(0,1)'",
    "select='print(1)'",
    "split[a][b];[a][b]overlay",
    "[in]movie=a[out]",
    "scale=w=10:h=10:eval=frame",
    "scale=10:10:flags=lanczos:x=/etc/passwd",
    "scale=10:10\nmovie=a",
    "scale=10:10;movie=a",
    "null\\,movie=a",
    "hflip@x",
    "/tmp/graph",
    "",
)

_AUDIO_FILTERS = (
    "amovie=/etc/passwd",
    "ametadata=print:file=/tmp/a",
    "asendcmd=f=/etc/passwd",
    "azmq",
    "ladspa=file=/tmp/a.so",
    "lv2=p=urn\\:a",
    "arnndn=m=/etc/passwd",
    "sofalizer=sofa=/etc/passwd",
    "flite=textfile=/etc/passwd",
    "asr=lm=/etc/passwd",
    "headphone=map=a",
    "aeval=print(1)",
    "loudnorm=print_format=json:stats_file=/tmp/a",
    "volume=volume=1:eval=frame",
    "volume=1\namovie=a",
)

# Options of the program, with values: at the front, where they are for an input, and before the output.
_OPTIONS_AND_VALUES = """
-report , -progress http://h/ , -progress out.mp4 , -progress file:/tmp/a , -progress pipe:3 , -vstats
-vstats_file /tmp/a , -passlogfile /tmp/a , -pass 2 , -sdp_file /tmp/a , -filter_complex movie=a
-filter_complex_script in.mp4 , -lavfi amovie=a , -filter_script:v in.mp4 , -/filter:v in.mp4 , -/vf in.mp4
-/filter_complex /etc/passwd , -/i /etc/passwd , -filter:0 movie=a , -filter movie=a , -filter:v:0 movie=a
-attach /etc/passwd , -dump_attachment:t /tmp/a , -init_hw_device vaapi=a:/dev/dri/card0
-filter_hw_device a , -hwaccel vaapi , -hwaccel_device /dev/dri/card0 , -vaapi_device /dev/a
-qsv_device /dev/a , -fpre /etc/passwd , -vpre a , -apre a , -spre a , -pre ../../etc/a
-preset /etc/passwd , -target pal-dvd , -tag:v /etc , -metadata a=b , -metadata:g /etc/passwd
-map_metadata in.mp4 , -map [a] , -map 0:m:a:b , -map_channel 0.0.0 , -x264-params stats=/tmp/a
-x264opts dump-yuv=/tmp/a , -x265-params csv=/tmp/a , -svtav1-params stats=/tmp/a , -aom-params a=b
-stats /tmp/a , -c:v h264_vaapi , -c:v libxvid , -c:v wrapped_avframe , -c:v rawvideo , -codec:v:0 libx264
-vcodec libx264 , -acodec aac , -bsf:v trace_headers , -bsf:v dump_extra=filename=a , -absf a
-protocol_whitelist file,http , -protocol_whitelist ALL , -format_whitelist hls , -codec_whitelist a
-allowed_extensions ALL , -safe 0 , -user_agent a , -http_proxy http://h , -listen 1 , -cookies a=b
-key 00 , -decryption_key 00 , -movflags +faststart+dash , -movflags frag_keyframe , -use_absolute_path 1
-enable_drefs 1 , -hls_segment_filename /tmp/a , -hls_key_info_file /etc/passwd , -master_pl_name /tmp/a
-segment_list /tmp/a , -segment_list_entry_prefix http://h/ , -init_seg_name /tmp/a , -export_side_data a
-dictionary /etc/passwd , -font_file /etc/passwd , -canvas_size a , -sub_charenc a , -stream_loop -1 , -re
-readrate 0 , -copyts , -f null , -f rawvideo , -f data , -devices , -sources pulse , -sinks pulse
-buildconf , -h full , -L , -version , -loglevel debug , -loglevel repeat+trace , -debug_ts , -benchmark
-cpuflags 0 , -max_alloc 0 , -threads 1000 , -filter_threads 1000 , -abort_on empty_output , -timelimit 1
-stdin , -fs 1 , -y=1 , --y , -Y , -i=a.mp4 , -ii in.mp4 , @list.mp4"""
_OPTIONS = (
    *(tuple(one.split()) for one in _OPTIONS_AND_VALUES.strip().replace("\n", " , ").split(" , ")),
    ("-dump_attachment", ""),
    ("-protocol_blacklist", ""),
    ("-headers", "a: b"),
)

# A value in another's place, an option in a value's place, and what looks like one argument and would be two.
_PLACES = (
    ("-i", "-y", "in.mp4", "out.mp4"),
    ("-i", "-report.mp4", "out.mp4"),
    ("-i", "-i", "in.mp4", "out.mp4"),
    ("-i", "in.mp4\n-report", "out.mp4"),
    ("-i", "in.mp4", "-vf", "-filter_complex", "out.mp4"),
    ("-i in.mp4", "out.mp4"),
    ("-i", "in.mp4 -report out.mp4"),
    ("-i", "in.mp4", "-c:v", "libx264 -x264opts stats=/tmp/a", "out.mp4"),
    ("-i", "in.mp4", "-c:v", "out.mp4"),
    ("-i", "in.mp4", "-progress", "-y", "out.mp4"),
    ("-i", "in.mp4", "-metadata", "-y", "out.mp4"),
    ("-i", "in.mp4", "--", "-out.mp4"),
    ("-i", "in.mp4\r", "out.mp4"),
    ("-i", "in.mp4", "out.mp4\n"),
    ("-i", "in.mp4", "\nout.mp4"),
    ("-i", "in.mp4", "out.mp4\u2028"),
    ("-i", "\u202ein.mp4", "out.mp4"),
    ("-i", "in.mp4", "\uff0fetc\uff0fout.mp4"),
    ("-i", "\u0456n.mp4", "out.mp4"),
    ("-i", "in%03d.mp4", "out.mp4"),
    ("-i", "in*.mp4", "out.mp4"),
    ("-i", "in?.mp4", "out.mp4"),
    ("-i", "{a,b}.mp4", "out.mp4"),
    ("-i", "~/in.mp4", "out.mp4"),
    ("-i", "$HOME.mp4", "out.mp4"),
    ("-i", "in.mp4", "$(id).mp4"),
    ("-i", "in.mp4", "`id`.mp4"),
    ("-i", "in.mp4", "out.mp4;id"),
    ("-i", "in.mp4", "out.mp4|id"),
    ("-i", "in.mp4", "out.m3u8"),
    ("-i", "in.mp4", "out.mpd"),
    ("-i", "in.mp4", "out.sdp"),
    ("-i", "in.mp4", "out.so"),
    ("-i", "in.mp4", "out.ffpreset"),
    ("-i", "in.mp4", ".out.mp4"),
    ("-i", "in.mp4", "..mp4"),
    ("-i", "in.mp4", "a/out.mp4"),
    ("-i", "in.mp4", "/job/input/out.mp4"),
    ("-i", "in.mp4", "../../control/run-1.status.mp4"),
    ("-i", "/proc/self/environ", "out.mp4"),
    ("-i", "/dev/stdin", "out.mp4"),
    ("-i", "", "out.mp4"),
    ("-i", "in.mp4", ""),
    ("-i", "in.ffconcat", "out.mp4"),
    ("-i", "in.m3u8", "out.mp4"),
    ("-i", "in.svg", "out.png"),
    ("-i", "in.mp4", *(("-vf", "hflip") * 400), "out.mp4"),
    ("-i", "in.mp4", "x" * 5000 + ".mp4"),
)

FFMPEG = {
    "protocols of ffmpeg, to read from": tuple(("-i", one, "out.mp4") for one in _PROTOCOLS)
    + tuple(("-i", one + ".mp4", "out.mp4") for one in _PROTOCOLS),
    "protocols of ffmpeg, to write to": tuple(("-i", "in.mp4", one + ".mp4") for one in _PROTOCOLS),
    "formats and devices of ffmpeg that open further files": tuple(
        ("-f", one, "-i", "in.mp4", "out.mp4") for one in _INPUT_FORMATS
    )
    + tuple(("-i", "in.mp4", "-f", one, "out.mp4") for one in _OUTPUT_FORMATS),
    "filters of ffmpeg that read, write, listen or load code": tuple(
        ("-i", "in.mp4", option, one, "out.mp4") for one in _VIDEO_FILTERS for option in ("-vf", "-filter:v")
    )
    + tuple(("-i", "in.mp4", "-af", one, "out.mp4") for one in _AUDIO_FILTERS),
    "other options of ffmpeg": tuple((*one, "-i", "in.mp4", "out.mp4") for one in _OPTIONS)
    + tuple(("-i", "in.mp4", *one, "out.mp4") for one in _OPTIONS),
    "arguments of ffmpeg in others' places, with newlines, spaces, look-alikes and shell's signs": _PLACES,
}

WHISPER = tuple(
    tuple(line.split(" "))
    for line in (
        "/etc/a.mp3",
        "../a.mp3",
        "http://h/a.mp3",
        "-a.mp3",
        "a.m3u8",
        "a.mp3\n",
        "file:a.mp3",
        "concat:a.mp3",
        "a.mp3 --model ./evil.pt",
        "a.mp3 --model evil.pt",
        "a.mp3 --model=tiny",
        "a.mp3 --mod tiny",
        "a.mp3 --model_dir /tmp",
        "a.mp3 --model_dir ..",
        "a.mp3 --output_dir /tmp",
        "a.mp3 --output_dir ./a",
        "a.mp3 --output_dir",
        "a.mp3 --output_format exe",
        "a.mp3 -o /tmp",
        "a.mp3 -f all",
        "a.mp3 --device cuda:0;id",
        "a.mp3 --device /dev/nvidia0",
        "a.mp3 --initial_prompt x",
        "a.mp3 --highlight_words True",
        "a.mp3 --language --model",
        "a.mp3 --threads 1000",
        "a.mp3 --temperature nan",
        "-- a.mp3",
        "@a.mp3",
        "--help",
    )
)

# By which a program would load code, find other files, other hosts or other devices.
VARIABLES = (
    *(
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "LD_BIND_NOW",
        "LD_DEBUG_OUTPUT",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
    ),
    *("MALLOC_CHECK_", "LOCPATH", "NLSPATH", "HOSTALIASES", "RESOLV_HOST_CONF", "RES_OPTIONS", "TZDIR"),
    *("PATH", "HOME", "SHELL", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "PS4", "CDPATH", "TMPDIR", "PWD"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHONUSERBASE"),
    *("PERL5LIB", "PERL5OPT", "RUBYOPT", "RUBYLIB", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "LUA_INIT"),
    *("GIT_SSH_COMMAND", "EDITOR", "PAGER", "LESSOPEN", "TERMINFO", "OPENSSL_CONF", "SSL_CERT_FILE"),
    *("http_proxy", "HTTPS_PROXY", "ALL_PROXY", "no_proxy", "FFREPORT", "FFMPEG_DATADIR", "AVCONV_DATADIR"),
    *("LADSPA_PATH", "LV2_PATH", "FREI0R_PATH", "FONTCONFIG_FILE", "XDG_CONFIG_HOME", "XDG_DATA_DIRS"),
    *(
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
        "CUDA_CACHE_PATH",
        "LIBVA_DRIVERS_PATH",
        "VDPAU_DRIVER_PATH",
    ),
    *("VK_ICD_FILENAMES", "OCL_ICD_VENDORS", "GST_PLUGIN_PATH", "MINER_AUTH", "FSM_MINER_TEST_FOLDER"),
)

LIES = {
    "an HLS playlist of a file of the host": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///proc/self/environ\n",
    "an HLS playlist of a service of the host": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:PORT/healthz\n",
    "an HLS playlist with a key of the host": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n"
    b'#EXT-X-KEY:METHOD=AES-128,URI="file:///proc/self/environ"\n#EXTINF:1,\nin.mp4\n#EXT-X-ENDLIST\n',
    "a DASH manifest": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    b"<AdaptationSet><Representation><BaseURL>file:///proc/self/environ</BaseURL></Representation></AdaptationSet>"
    b"</Period></MPD>",
    "an ffconcat script": b"ffconcat version 1.0\nfile '/proc/self/environ'\n",
    "an SDP description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "an SVG with a file inside": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/proc/self/environ"/></svg>',
    "a reference file of QuickTime": b"RTSPtext\nrtsp://127.0.0.1:PORT/x\n",
}

COUNTED = {
    **{f"times {what}: denied": len(found) for what, found in FFMPEG.items()},
    "times arguments of whisper: denied": len(WHISPER),
    "variables that choose code, files, hosts or devices, in `env` and as a secret: denied": len(VARIABLES),
    "media that are something else: nothing is read, and nobody is reached": len(LIES),
}
