/// How fast a container may send and receive, in thousands of bits a second; nil where nothing limits it.
package struct Bandwidth: Hashable, Sendable, Codable {
    /// Out of the container.
    package var egressKbps: Int?
    /// Into the container.
    package var ingressKbps: Int?

    package init(egressKbps: Int? = nil, ingressKbps: Int? = nil) {
        self.egressKbps = egressKbps
        self.ingressKbps = ingressKbps
    }

    /// Below, connections time out rather than being slow; above, the kernel's 32-bit rate ends.
    package static let range = 64...10_000_000

    package var isUnlimited: Bool { egressKbps == nil && ingressKbps == nil }
}
