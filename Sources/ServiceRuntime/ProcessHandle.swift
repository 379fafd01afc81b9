private import CServiceRuntime
import Glibc

/// One process, held so that its number cannot come to mean another one (pidfd).
package struct ProcessHandle: ~Copyable {
    private let descriptor: Int32

    /// Nil where there is no such process any more.
    package init?(pid: Int) {
        guard let pid = Int32(exactly: pid), pid > 1 else { return nil }
        let opened = berth_pidfd_open(pid)
        guard opened >= 0 else { return nil }
        descriptor = opened
    }

    deinit { close(descriptor) }

    /// Sends SIGKILL.
    ///
    /// - Returns: false where this program may not, or the process is gone.
    @discardableResult
    package func kill() -> Bool { berth_pidfd_send_signal(descriptor, SIGKILL) == 0 }
}
