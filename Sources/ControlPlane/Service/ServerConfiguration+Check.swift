import ControlPlaneStore
import ServiceRuntime

extension ServerConfiguration {
    /// What can be known of it without serving: the address of the database, and the certificate with its key.
    ///
    /// - Throws: `ProgramFailure` with what `serve` would end with.
    package func check() throws {
        do {
            try database.check()
        } catch {
            throw ProgramFailure(.configuration, "database: \(error)")
        }
        _ = try certificate()
    }

    /// Nil where it serves in the clear.
    func certificate() throws -> ServerCertificate? {
        guard let certificateFile, let keyFile else { return nil }
        return try ServerCertificate(certificateFile: certificateFile, keyFile: keyFile)
    }
}
