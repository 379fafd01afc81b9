private import CServiceRuntime
import Glibc

/// Why the kernel did not do something.
package struct TrafficError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was asked for, for people.
    package var call: String
    /// Of errno(3).
    package var code: Int32
    /// It was about entering another namespace.
    var isOutside = false

    package var description: String {
        if code == EPERM {
            return "\(call): not permitted; the agent needs CAP_NET_ADMIN\(isOutside ? " and CAP_SYS_ADMIN" : "")"
        }
        return "\(call): \(String(cString: strerror(code)))"
    }
}

/// A socket to the kernel's routing and traffic control in one network namespace. Its calls wait for the kernel, which
/// answers in microseconds.
struct RouteSocket: ~Copyable {
    private let descriptor: Int32
    private var sequence: UInt32 = 0

    /// - Parameter pid: a process of the namespace.
    init(inNamespaceOf pid: Int32) throws(TrafficError) {
        descriptor = berth_route_socket(pid)
        guard descriptor >= 0 else {
            throw TrafficError(call: "network namespace of process \(pid)", code: errno, isOutside: true)
        }
    }

    deinit { close(descriptor) }

    /// Sends and waits for the acknowledgement.
    mutating func change(_ call: String, _ message: RouteMessage) throws(TrafficError) {
        _ = try exchange(call, message)
    }

    /// Sends and gives the bodies of all messages that come back.
    mutating func exchange(_ call: String, _ message: RouteMessage) throws(TrafficError) -> [RouteBytes] {
        sequence &+= 1
        let sent = message.encoded(sequence: sequence)
        guard send(descriptor, sent, sent.count, 0) == sent.count else { throw TrafficError(call: call, code: errno) }
        var answers: [RouteBytes] = []
        while true {
            // Larger than the kernel makes a part of a dump.
            var buffer = [UInt8](repeating: 0, count: 64 * 1024)
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw TrafficError(call: call, code: count == 0 ? EIO : errno) }
            var rest = RouteBytes(buffer[..<count])
            while let length = rest.number(at: 0, as: UInt32.self), length >= RouteMessage.headerSize,
                Int(length) <= rest.bytes.count, let type = rest.number(at: 4, as: UInt16.self)
            {
                let end = rest.bytes.startIndex + Int(length)
                // A late answer to something that was given up on is nobody's.
                let isOurs = rest.number(at: 8, as: UInt32.self) == sequence
                let body = RouteBytes(rest.bytes[(rest.bytes.startIndex + RouteMessage.headerSize)..<end])
                rest = RouteBytes(rest.bytes[min(end + (4 - Int(length) % 4) % 4, rest.bytes.endIndex)...])
                guard isOurs else { continue }
                switch type {
                case 2:  // NLMSG_ERROR, also the acknowledgement
                    let code = body.number(at: 0, as: Int32.self) ?? -EIO
                    if code != 0 { throw TrafficError(call: call, code: -code) }
                    return answers
                case 3: return answers  // NLMSG_DONE
                default: answers.append(body)
                }
                if message.flags.isDisjoint(with: [.dump, .acknowledge]) { return answers }
            }
        }
    }
}

/// The process that listens on a Unix socket; nil where it cannot be seen from here.
package func listenerPID(socketPath: String) -> Int32? {
    let pid = berth_listener_pid(socketPath)
    return pid > 0 ? pid : nil
}
