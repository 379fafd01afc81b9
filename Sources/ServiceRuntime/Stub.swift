enum StubServiceRuntime {}
