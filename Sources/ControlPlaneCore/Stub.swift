enum StubControlPlaneCore {}
