import BerthModel
import Glibc
import TrafficControl

/// Keeps the limits of bandwidth of this agent's containers in the kernel as they are wanted. The kernel forgets them with
/// the container's interface, so a container that was started again gets them again; what somebody changed by hand is put
/// right within `lookAgainAfter`.
actor TrafficShaper {
    /// One container that runs.
    struct Target: Hashable, Sendable {
        var container: String
        var pid: Int
        var wanted: Bandwidth
    }

    private static let lookAgainAfter = Milliseconds.seconds(30)
    /// Interfaces through which containers send; with twelve digits of the container's id, the kernel's 15 characters.
    private static let prefix = "bth"

    private let engineSocket: String
    /// On every such interface, so that another agent of this host leaves it alone.
    private let owner: String
    private let time: MonotonicTime
    private var looked: (at: MonotonicInstant, targets: Set<Target>, untouched: Set<String>)?
    /// Nothing of ours can be in the kernel, so there is nothing to look for.
    private var isIdle = false
    /// Why a container's limit is not kept, by its id.
    private(set) var problems: [String: String] = [:]

    init(agent: AgentID, engineSocket: String, time: MonotonicTime) {
        owner = "berth \(agent)"
        self.engineSocket = engineSocket
        self.time = time
    }

    /// Whether a call of `converge` could do anything.
    func isNeeded(anythingIsLimited: Bool) -> Bool { anythingIsLimited || !isIdle }

    /// - Parameters:
    ///   - targets: the containers that run and are somebody's wish.
    ///   - untouched: ids of other containers that run or may: they keep what they have.
    /// - Returns: the containers whose limits were changed.
    func converge(_ targets: Set<Target>, untouched: Set<String>) -> [Target] {
        if let looked, looked.targets == targets, looked.untouched == untouched,
            time.now - looked.at < Self.lookAgainAfter
        {
            return []
        }
        problems = [:]
        looked = nil
        var hasFailed = false
        let limited = targets.filter { !$0.wanted.isUnlimited }
        do {
            var control = try TrafficControl(inNamespaceOf: listenerPID(socketPath: engineSocket) ?? getpid())
            var look = Look(links: try control.links(), queues: try control.queues(), owner: owner)
            var changed: [Target] = []
            for target in targets.sorted(by: { $0.container < $1.container }) {
                do {
                    if try look.shape(target, Self.name(target.container), &control) { changed.append(target) }
                } catch {
                    // What is to be free and is not is looked at again too.
                    hasFailed = true
                    if !target.wanted.isUnlimited { problems[target.container] = "\(error)" }
                }
            }
            let kept = Set(targets.map(\.container)).union(untouched).map(Self.name)
            for link in look.links
            where link.kind == "ifb" && link.name.hasPrefix(Self.prefix) && (link.alias == owner || link.alias.isEmpty)
                && !kept.contains(link.name)
            {
                // Of a container that has ended: its interface is gone, and nothing leads here. Without an alias it was
                // never finished.
                do { try control.remove(link.index) } catch { hasFailed = true }
            }
            if !hasFailed { looked = (time.now, targets, untouched) }
            let hasOurs =
                look.queues.values.contains { $0.rate != nil }
                || look.links.contains { $0.kind == "ifb" && $0.alias == owner }
            isIdle = limited.isEmpty && !hasOurs && !hasFailed
            return changed
        } catch {
            for target in limited { problems[target.container] = "\(error)" }
            return []
        }
    }

    private static func name(_ container: String) -> String { prefix + container.prefix(12) }

    /// What the kernel has, and what is to be changed about it.
    private struct Look {
        let links: [TrafficControl.Link]
        let queues: [Int32: TrafficControl.Queues]
        let owner: String

        enum Problem: Error, CustomStringConvertible {
            case notSeen, noInterface

            var description: String {
                switch self {
                case .notSeen: "the container's processes cannot be seen by the agent"
                case .noInterface: "the container has no interface on this host"
                }
            }
        }

        /// - Returns: true where something was changed.
        mutating func shape(
            _ target: Target, _ name: String, _ control: inout TrafficControl
        ) throws -> Bool {
            guard ContainerProcesses.isProcess(target.pid, of: target.container), let pid = Int32(exactly: target.pid)
            else { throw Problem.notSeen }
            let number = try control.namespaceNumber(of: pid)
            let cables = links.filter { $0.kind == "veth" && $0.peerNamespace != nil && $0.peerNamespace == number }
            if cables.isEmpty { throw Problem.noInterface }
            var isChanged = false
            let received = target.wanted.ingressKbps.map(Self.rate)
            for cable in cables where queues[cable.index]?.rate != received {
                isChanged = true
                guard let received else {
                    try control.unlimit(cable.index)
                    continue
                }
                try control.limit(cable.index, rate: received)
            }
            let sending = links.first { $0.kind == "ifb" && $0.name == name }
            guard let sent = target.wanted.egressKbps.map(Self.rate) else {
                guard let sending else { return isChanged }
                try takeAway(sending, from: cables, &control)
                return true
            }
            let isWhole =
                sending?.alias == owner && sending?.isUp == true
                && cables.allSatisfy { queues[$0.index]?.hasIngress == true }
            if let sending, isWhole {
                if queues[sending.index]?.rate == sent { return isChanged }
                try control.limit(sending.index, rate: sent)
                return true
            }
            // The interface of a container of ours is ours, whoever else put something there.
            try takeAway(sending, from: cables, &control)
            let interface = try control.addQueueInterface(name)
            do {
                try control.limit(interface, rate: sent)
                for cable in cables { try control.redirect(cable.index, to: interface) }
                // Last: what has it is whole, whenever the agent was killed.
                try control.setAlias(interface, owner)
            } catch {
                // Nothing may lead to an interface that is gone: what is sent there is lost.
                for cable in cables { try? control.endRedirection(cable.index) }
                try? control.remove(interface)
                throw error
            }
            return true
        }

        private func takeAway(
            _ sending: TrafficControl.Link?, from cables: [TrafficControl.Link], _ control: inout TrafficControl
        ) throws(TrafficError) {
            for cable in cables where queues[cable.index]?.hasIngress == true {
                try control.endRedirection(cable.index)
            }
            if let sending { try control.remove(sending.index) }
        }

        /// Bits a second, in whole bytes as the kernel counts.
        private static func rate(_ kbps: Int) -> Int { kbps * 1000 / 8 * 8 }
    }
}
