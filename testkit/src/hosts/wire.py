"""A wire between two network interfaces that is slow and loses frames: for kernels without tc's netem.

    python3 wire.py INTERFACE INTERFACE DELAY_MS JITTER_MS LOSS_PERCENT

Frames are taken and given with their offload header (PACKET_VNET_HDR), so that checksums and segments which the
kernel left for the hardware stay as they are.
"""

import heapq
import random
import select
import socket
import sys
import time

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
FRAME_BYTES_MAX = 10 + 14 + 65536
# What may be on its way at once; more is lost, as in any queue.
FRAMES_MAX = 20000


def open_end(interface):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.bind((interface, ETH_P_ALL))
    return end


def main(first, second, delay_ms, jitter_ms, loss_percent):
    ends = (open_end(first), open_end(second))
    on_its_way, count = [], 0
    print("ready", flush=True)
    while True:
        wait = max(0.0, on_its_way[0][0] - time.monotonic()) if on_its_way else None
        for end in select.select(ends, (), (), wait)[0]:
            frame = end.recv(FRAME_BYTES_MAX)
            if random.random() * 100 < loss_percent or len(on_its_way) >= FRAMES_MAX:
                continue
            due = time.monotonic() + max(0.0, delay_ms + random.uniform(-jitter_ms, jitter_ms)) / 1000
            count += 1
            heapq.heappush(on_its_way, (due, count, ends[1 - ends.index(end)], frame))
        while on_its_way and on_its_way[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(on_its_way)
            try:
                end.send(frame)
            except OSError:
                pass  # the interface is down: the frame is lost


main(sys.argv[1], sys.argv[2], *(float(value) for value in sys.argv[3:6]))
