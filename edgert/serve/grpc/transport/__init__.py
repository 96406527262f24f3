"""gRPC over HTTP/2 on asyncio: calls with messages that are bytes."""
