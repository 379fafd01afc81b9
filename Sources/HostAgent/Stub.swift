enum StubHostAgent {}
