import Glibc
import NIOCore
import ServiceRuntime

/// One HTTP/1.1 connection on the thread that asks, with nothing between it and the socket: what passes until the answer is
/// there is the server's.
final class DirectConnection {
    private let socket: CInt

    init(port: Int) throws {
        socket = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        var (address, on) = (sockaddr_in(), CInt(1))
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        setsockopt(socket, CInt(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<CInt>.size))
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard connected == 0 else { throw ProgramFailure(.unavailable, "no connection to port \(port)") }
    }

    deinit { close(socket) }

    /// - Parameter request: one whole request.
    /// - Returns: with the answer what passed until its last byte was there; to take it apart is not the server's work.
    func ask(_ request: ByteBuffer) throws -> (answer: HTTPAnswer, passed: Duration) {
        let start = ContinuousClock.now
        let written = request.readableBytesView.withUnsafeBytes { write(socket, $0.baseAddress, $0.count) }
        guard written == request.readableBytes else { throw ProgramFailure(.failure, "the request was not sent") }
        var received = ByteBuffer()
        while true {
            let count = received.writeWithUnsafeMutableBytes(minimumWritableBytes: 16_384) {
                max(0, read(socket, $0.baseAddress, $0.count))
            }
            let passed = start.duration(to: .now)
            guard count > 0 else { throw ProgramFailure(.failure, "the connection ended before the answer") }
            if let answer = HTTPAnswer(takenFrom: &received) { return (answer, passed) }
        }
    }
}
