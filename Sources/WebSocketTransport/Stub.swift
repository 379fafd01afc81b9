enum StubWebSocketTransport {}
