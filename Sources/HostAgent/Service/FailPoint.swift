#if DEBUG
    import Glibc
    import ServiceRuntime
    import Synchronization
#endif

/// A place at which a test kills this process, to show what a crash there costs. Only debug builds have them:
/// `BERTH_FAIL_POINT=after-create` dies when it is reached, `after-create:2` when it is reached the second time.
enum FailPoint {
    #if DEBUG
        private static let chosen = (ProgramEnvironment.variables()["BERTH_FAIL_POINT"] ?? "").split(separator: ":")
        private static let passesLeft = Mutex(chosen.count > 1 ? Int(chosen[1]) ?? 1 : 1)
    #endif

    static func reached(_ name: String) {
        #if DEBUG
            guard let first = chosen.first, first == name else { return }
            let isDue = passesLeft.withLock { left in
                left -= 1
                return left == 0
            }
            if isDue { kill(getpid(), SIGKILL) }
        #endif
    }
}
