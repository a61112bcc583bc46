"""Talks to the service through padlock, over TLS. The first argument is the root certificate, the second padlock's port."""
import queue
import sys

import grpc

root, port = sys.argv[1], sys.argv[2]
credentials = grpc.ssl_channel_credentials(open(root, "rb").read())
options = [("grpc.ssl_target_name_override", "grpc.localhost"), ("grpc.default_authority", "grpc.localhost")]
with grpc.secure_channel("127.0.0.1:" + port, credentials, options) as channel:
    talk = channel.stream_stream("/example.Chat/Talk", str.encode, bytes.decode)
    outbox = queue.Queue()
    call = talk(iter(outbox.get, None), timeout=20)
    for message in ["hello", "hello again"]:
        outbox.put(message)
        print(next(call))
    outbox.put(None)
    print("left over:", list(call))
    print("trailers:", dict(call.trailing_metadata()))
    try:
        list(talk(iter(["fail"]), timeout=20))
    except grpc.RpcError as error:
        print(error.code().name, error.details())
