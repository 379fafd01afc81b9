/// Why a call to the Engine did not give its result. Names the call, what it was about, and what the Engine said.
package struct EngineError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Kind: Hashable, Sendable {
        /// Nobody answers on the socket.
        case unreachable
        /// The deadline passed: the call may or may not have had its effect.
        case timedOut
        /// The Engine answered with this HTTP status.
        case refused(status: Int)
        /// The connection ended before the answer was complete: as with `timedOut`, the effect is open.
        case cutOff
        /// The answer could not be read.
        case malformed
        /// The answer is larger than the limit of this call.
        case tooLarge
        /// The stream of a pull reported this failure.
        case pullFailed
        /// The Engine speaks no version of the API that this program knows.
        case incompatible
    }

    package var kind: Kind
    /// For example `container create`.
    package var call: String
    /// What the call was about: a container, an image; empty where there is nothing to name.
    package var object: String
    /// The Engine's own message, or the cause.
    package var message: String

    package init(kind: Kind, call: String, object: String, message: String) {
        self.kind = kind
        self.call = call
        self.object = object
        self.message = message
    }

    package var description: String {
        let about = object.isEmpty ? "" : " \(object)"
        return "\(call)\(about): \(what)\(message.isEmpty ? "" : ": \(message)")"
    }

    private var what: String {
        switch kind {
        case .unreachable: "the Engine is not reachable"
        case .timedOut: "no answer in time"
        case .refused(let status): "refused with \(status)"
        case .cutOff: "the connection ended early"
        case .malformed: "an answer that cannot be read"
        case .tooLarge: "an answer that is too large"
        case .pullFailed: "the pull failed"
        case .incompatible: "no common API version"
        }
    }

    /// The HTTP status, where the Engine answered with one that is not a success.
    package var status: Int? {
        if case .refused(let status) = kind { return status }
        return nil
    }

    /// True where the call may have had its effect although it gave no result.
    package var mayHaveHappened: Bool {
        switch kind {
        case .timedOut, .cutOff, .malformed, .tooLarge: true
        case .refused(let status): status >= 500
        case .unreachable, .pullFailed, .incompatible: false
        }
    }
}
