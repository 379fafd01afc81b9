package import ArgumentParser
import Glibc
import ServiceRuntime

/// Runs a command and ends the process with the exit code that fits its error.
package enum ProgramEntry {
    package static func run(_ root: (some AsyncParsableCommand).Type) async -> Never {
        do {
            var command = try root.parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
            exit(ExitStatus.success.rawValue)
        } catch let failure as ProgramFailure {
            ProgramEnvironment.printError("error: \(failure.description)")
            exit(failure.status.rawValue)
        } catch {
            let text = root.fullMessage(for: error)
            let code = root.exitCode(for: error)
            // Help and version are answers, not errors.
            if code == .success {
                ProgramEnvironment.printLine(text)
                exit(ExitStatus.success.rawValue)
            }
            ProgramEnvironment.printError(text)
            exit(code == .validationFailure ? ExitStatus.usage.rawValue : ExitStatus.failure.rawValue)
        }
    }
}
