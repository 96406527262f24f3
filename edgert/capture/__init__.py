"""Where frames come from: cameras, ZeroMQ, shared memory, recordings.

Reading order:
    source      the protocol               capture      the loop: source → slot → deliver
    uri         what a person may write    connection   keeps a source open: retries, stalls, state
    options     … and in which table       state, pace  what is told of a source; clocks
                                           unforeseen   what is no error of edgert
    factory     from options to a source

    camera      live, a thread waits       clip, replay  files, as cameras or from memory
    gstreamer   without OpenCV's help      video         OpenCV's reader, under all three
    zeromq      endpoints                  message, picture, shm   what a message may hold
    dialect     whose messages             frigate       those of Frigate
    answers     … and what goes back       ipc           files of ipc:// addresses
"""
