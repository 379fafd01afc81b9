import Glibc

/// Interfaces and their queues in the network namespace of an Engine, as far as limits of bandwidth need them.
///
/// What a container receives leaves the host's end of its cable through a token bucket (`tbf`). What it sends arrives
/// there, where nothing can queue: it is redirected to an interface of its own (`ifb`) and leaves that through another
/// token bucket. tc(8) shows and removes all of it.
package struct TrafficControl: ~Copyable {
    private var socket: RouteSocket

    /// Marks queues as made here.
    private static let handle: UInt32 = 0x0B37_0000
    private static let root: UInt32 = 0xFFFF_FFFF
    private static let ingressParent: UInt32 = 0xFFFF_FFF1
    private static let ingressHandle: UInt32 = 0xFFFF_0000

    /// - Parameter pid: a process of the namespace.
    package init(inNamespaceOf pid: Int32) throws(TrafficError) {
        socket = try RouteSocket(inNamespaceOf: pid)
    }

    package struct Link: Hashable, Sendable {
        package var index: Int32
        package var name: String
        package var alias: String
        /// `veth`, `ifb`, `bridge`, …
        package var kind: String
        /// The namespace in which a cable's other end is.
        package var peerNamespace: Int32?
        package var isUp: Bool
    }

    package struct Queues: Hashable, Sendable {
        /// Bits a second of our token bucket at the interface's root; nil where there is none, or somebody else's.
        package var rate: Int?
        /// What arrives is looked at.
        package var hasIngress = false
    }

    // MARK: looking

    package mutating func links() throws(TrafficError) -> [Link] {
        var message = RouteMessage(.getLink, .dump)
        message.interface(index: 0)
        message.attribute(29, UInt32(1 << 3))  // IFLA_EXT_MASK: without statistics
        return try socket.exchange("list of interfaces", message).compactMap { answer in
            guard let index = answer.number(at: 4, as: Int32.self), let flags = answer.number(at: 8, as: UInt32.self)
            else { return nil }
            let attributes = answer.attributes(after: 16)
            return Link(
                index: index, name: attributes[3]?.text ?? "", alias: attributes[20]?.text ?? "",
                kind: attributes[18]?.attributes(after: 0)[1]?.text ?? "",
                peerNamespace: attributes[37]?.number(at: 0), isUp: flags & 1 != 0)
        }
    }

    /// By the index of their interface.
    package mutating func queues() throws(TrafficError) -> [Int32: Queues] {
        var message = RouteMessage(.getQueue, .dump)
        message.queue(interface: 0)
        var result: [Int32: Queues] = [:]
        for answer in try socket.exchange("list of queues", message) {
            guard let interface = answer.number(at: 4, as: Int32.self),
                let handle = answer.number(at: 8, as: UInt32.self), let parent = answer.number(at: 12, as: UInt32.self)
            else { continue }
            let attributes = answer.attributes(after: 20)
            if parent == Self.ingressParent {
                result[interface, default: Queues()].hasIngress = true
            } else if parent == Self.root, handle == Self.handle, attributes[1]?.text == "tbf" {
                let bytes = attributes[2]?.attributes(after: 0)[1]?.number(at: 8, as: UInt32.self)
                result[interface, default: Queues()].rate = bytes.map { Int($0) * 8 }
            }
        }
        return result
    }

    /// How this namespace numbers the one of `pid`; nil where no cable leads there. After `links`, which gives the numbers.
    package mutating func namespaceNumber(of pid: Int32) throws(TrafficError) -> Int32? {
        var message = RouteMessage(.getNamespaceID, [])
        message.append(UInt32(0))
        message.attribute(2, UInt32(bitPattern: pid))
        let answer = try socket.exchange("network namespace of process \(pid)", message).first
        return answer?.attributes(after: 4)[1]?.number(at: 0, as: Int32.self).flatMap { $0 >= 0 ? $0 : nil }
    }

    // MARK: changing

    /// - Parameter rate: bits a second.
    package mutating func limit(_ interface: Int32, rate: Int) throws(TrafficError) {
        let bytes = UInt32(clamping: rate / 8)
        // Ten milliseconds, and never less than some full packets: what is larger is cut up by the kernel.
        let burst = max(32 * 1024, bytes / 100)
        var message = RouteMessage(.newQueue, [.create, .replace, .acknowledge])
        message.queue(interface: interface, handle: Self.handle, parent: Self.root)
        message.attribute(1, "tbf")
        message.attribute(2) { options in
            options.attribute(1) { parameters in
                parameters.rate(bytes)
                parameters.rate(0)
                // Bytes that wait: a fifth of a second. With less, what TCP loses and sends again comes off its rate.
                parameters.append(max(128 * 1024, bytes / 5))
                // Taken from the attribute below.
                parameters.append(UInt32(0))
                parameters.append(UInt32(0))
            }
            options.attribute(6, burst)
        }
        try socket.change("token bucket (tbf)", message)
    }

    /// Takes away the token bucket that was put there by `limit`.
    package mutating func unlimit(_ interface: Int32) throws(TrafficError) {
        var message = RouteMessage(.deleteQueue, .acknowledge)
        message.queue(interface: interface, handle: Self.handle, parent: Self.root)
        try socket.change("token bucket (tbf)", message)
    }

    /// Lets everything that arrives at `interface` leave through `other`.
    package mutating func redirect(_ interface: Int32, to other: Int32) throws(TrafficError) {
        var queue = RouteMessage(.newQueue, [.create, .exclusive, .acknowledge])
        queue.queue(interface: interface, handle: Self.ingressHandle, parent: Self.ingressParent)
        queue.attribute(1, "ingress")
        try socket.change("queue for what arrives (ingress)", queue)

        var filter = RouteMessage(.newFilter, [.create, .exclusive, .acknowledge])
        // Priority 1, all protocols (ETH_P_ALL, in network order).
        filter.queue(
            interface: interface, parent: Self.ingressHandle, information: 1 << 16 | UInt32(UInt16(3).bigEndian))
        filter.attribute(1, "u32")
        filter.attribute(2) { options in
            options.attribute(5) { selector in
                selector.append(UInt8(1))  // TC_U32_TERMINAL
                selector.append(UInt8(0))
                selector.append(UInt8(1))  // one key: anything
                for _ in 0..<13 { selector.append(UInt8(0)) }
                for _ in 0..<4 { selector.append(UInt32(0)) }
            }
            options.attribute(7) { actions in
                actions.attribute(1) { action in
                    action.attribute(1, "mirred")
                    action.attribute(2) { parameters in
                        parameters.attribute(2) { mirred in
                            mirred.append(UInt32(0))
                            mirred.append(UInt32(0))
                            mirred.append(Int32(4))  // TC_ACT_STOLEN
                            mirred.append(Int32(0))
                            mirred.append(Int32(0))
                            mirred.append(Int32(1))  // TCA_EGRESS_REDIR
                            mirred.append(other)
                        }
                    }
                }
            }
        }
        try socket.change("redirection (u32, mirred)", filter)
    }

    /// Takes away what `redirect` made.
    package mutating func endRedirection(_ interface: Int32) throws(TrafficError) {
        var message = RouteMessage(.deleteQueue, .acknowledge)
        message.queue(interface: interface, handle: Self.ingressHandle, parent: Self.ingressParent)
        try socket.change("queue for what arrives (ingress)", message)
    }

    /// An interface that is nothing but a queue, up, and still without an alias.
    ///
    /// - Returns: its index.
    package mutating func addQueueInterface(_ name: String) throws(TrafficError) -> Int32 {
        var message = RouteMessage(.newLink, [.create, .exclusive, .acknowledge])
        message.interface(index: 0, isUp: true)
        message.attribute(3, name)
        message.attribute(18) { $0.attribute(1, "ifb") }
        try socket.change("interface (ifb)", message)
        guard let link = try links().first(where: { $0.name == name }) else {
            throw TrafficError(call: "interface (ifb)", code: ENODEV)
        }
        return link.index
    }

    package mutating func setAlias(_ interface: Int32, _ alias: String) throws(TrafficError) {
        var message = RouteMessage(.newLink, .acknowledge)
        message.interface(index: interface)
        message.attribute(20, alias)
        try socket.change("alias of an interface", message)
    }

    package mutating func remove(_ interface: Int32) throws(TrafficError) {
        var message = RouteMessage(.deleteLink, .acknowledge)
        message.interface(index: interface)
        try socket.change("removal of an interface", message)
    }
}

extension RouteMessage {
    /// `struct ifinfomsg`.
    fileprivate mutating func interface(index: Int32, isUp: Bool = false) {
        append(UInt32(0))
        append(index)
        append(UInt32(isUp ? 1 : 0))
        append(UInt32(isUp ? 1 : 0))
    }

    /// `struct tcmsg`.
    fileprivate mutating func queue(
        interface: Int32, handle: UInt32 = 0, parent: UInt32 = 0, information: UInt32 = 0
    ) {
        append(UInt32(0))
        append(interface)
        append(handle)
        append(parent)
        append(information)
    }

    /// `struct tc_ratespec`.
    fileprivate mutating func rate(_ bytes: UInt32) {
        append(UInt8(0))
        append(UInt8(bytes == 0 ? 0 : 1))  // TC_LINKLAYER_ETHERNET: the kernel needs no table of times
        append(UInt16(0))
        append(Int16(0))
        append(UInt16(0))
        append(bytes)
    }
}
