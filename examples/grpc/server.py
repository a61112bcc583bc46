"""A gRPC service without TLS: it answers every message of a conversation before the next comes. Needs python3-grpcio."""
import os
from concurrent import futures

import grpc


def talk(messages, context):
    said = 0
    for message in messages:
        said += 1
        yield "you said " + message
        if message == "fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you wish")
    context.set_trailing_metadata([("messages", str(said))])


methods = {"Talk": grpc.stream_stream_rpc_method_handler(talk, bytes.decode, str.encode)}
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("example.Chat", methods)])
server.add_insecure_port("127.0.0.1:" + os.environ.get("APP_PORT", "50051"))
server.start()
server.wait_for_termination()
