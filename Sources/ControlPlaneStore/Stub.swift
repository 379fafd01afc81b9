enum StubControlPlaneStore {}
