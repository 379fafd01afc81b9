/// Exit codes of both programs, after sysexits(3).
package enum ExitStatus: Int32, Sendable {
    case success = 0
    case failure = 1
    case usage = 2
    /// Input that is not what it should be.
    case dataError = 65
    /// A service that is needed does not answer.
    case unavailable = 69
    /// Another process holds what we need; trying later may help.
    case temporaryFailure = 75
    case noPermission = 77
    /// The configuration is refused as a whole.
    case configuration = 78
}

/// An error that ends a program: what to print, and how to exit.
package struct ProgramFailure: Error, Sendable, CustomStringConvertible {
    package var status: ExitStatus
    package var description: String

    package init(_ status: ExitStatus, _ description: String) {
        self.status = status
        self.description = description
    }
}
