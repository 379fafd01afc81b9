import Logging
import NIOSSL
import ServiceRuntime
import Synchronization
import UnixSignals

/// The certificate that new connections get. SIGHUP reads it again; where that fails, the one before stays in use.
final class ServerCertificate: Sendable {
    private let certificateFile: String
    private let keyFile: String
    private let context: Mutex<NIOSSLContext>

    /// - Throws: `ProgramFailure` where the files cannot be used.
    init(certificateFile: String, keyFile: String) throws {
        self.certificateFile = certificateFile
        self.keyFile = keyFile
        context = Mutex(try Self.load(certificateFile, keyFile))
    }

    var current: NIOSSLContext { context.withLock { $0 } }

    /// Until cancelled. Without a certificate SIGHUP means nothing, and ends nothing.
    static func reloadOnHangup(_ certificate: ServerCertificate?, log: Logger) async {
        for await _ in await UnixSignalsSequence(trapping: .sighup) { certificate?.reload(log: log) }
    }

    private func reload(log: Logger) {
        do {
            let next = try Self.load(certificateFile, keyFile)
            context.withLock { $0 = next }
            log.notice("certificate read again", metadata: ["file": "\(certificateFile)"])
        } catch {
            log.error("certificate cannot be read again; the one before stays", metadata: ["error": "\(error)"])
        }
    }

    private static func load(_ certificateFile: String, _ keyFile: String) throws -> NIOSSLContext {
        do {
            let certificates = try NIOSSLCertificate.fromPEMFile(certificateFile)
            var configuration = TLSConfiguration.makeServerConfiguration(
                certificateChain: certificates.map { .certificate($0) },
                privateKey: .privateKey(try NIOSSLPrivateKey(file: keyFile, format: .pem)))
            configuration.minimumTLSVersion = .tlsv12
            // A key of another certificate is found out here and not by the first client.
            return try NIOSSLContext(configuration: configuration)
        } catch {
            throw ProgramFailure(.configuration, "tls_certificate \(certificateFile), tls_key \(keyFile): \(error)")
        }
    }
}
