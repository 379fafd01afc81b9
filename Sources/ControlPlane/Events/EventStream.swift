import ControlPlaneStore
import Foundation
import Logging
import NIOCore
import ServiceRuntime
import WebSocketTransport

/// One client of `/ws/events`: a list first, then what happens.
struct EventStream: Sendable {
    let caller: Caller
    /// Of the token.
    let text: String
    let authenticator: Authenticator
    let revocations: Revocations
    let after: Int?
    let hub: EventHub
    let listing: @Sendable () async throws -> JSONValue
    let log: Logger

    /// A client has nothing to say but `ping`.
    static let limits = WebSocketLimits(frameBytes: 4096, messageBytes: 4096)

    /// How often an open stream is checked against an expired token.
    private static let tokenCheckSeconds = 30

    func run(_ connection: WebSocketConnection) async {
        let (id, doorbell, isReplayed) = await hub.subscribe(user: caller.user.id, after: after)
        do {
            _ = try await connection.run { messages, writer in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        if !isReplayed { try await sendList(writer) }
                        for await _ in doorbell.rings {
                            for delivery in await hub.drain(id) { try await send(delivery, writer) }
                        }
                    }
                    group.addTask { try await answer(messages, writer) }
                    group.addTask { try await watchToken(writer) }
                    group.addTask {
                        let revoked = await revocations.ofToken(caller.token.id)
                        // It may have been while nobody listened here yet.
                        await closeIfVoid(writer)
                        for await _ in revoked { await closeIfVoid(writer) }
                        try await Task.sleep(for: .seconds(86_400))
                    }
                    defer { group.cancelAll() }
                    try await group.next()
                }
            }
        } catch {
            log.debug("event stream ended", metadata: ["user": "\(caller.user.id)", "error": "\(error)"])
        }
        await hub.unsubscribe(id)
    }

    private func sendList(_ writer: WebSocketConnection.Writer) async throws {
        var pause = 0.25
        while true {
            // Before the list is read: what happens meanwhile comes after it.
            let sequence = await hub.lastSequence
            do {
                let list = try await listing()
                return try await writer.send(Self.frame("list", list, sequence: sequence, time: Timestamp.now()))
            } catch let failure as StoreFailure {
                // Whoever listens has nothing better to do than to wait for it.
                log.debug("no list for a stream", metadata: ["user": "\(caller.user.id)", "error": "\(failure)"])
                try await Task.sleep(for: .seconds(pause))
                pause = min(pause * 2, 5)
            }
        }
    }

    private func send(_ delivery: EventHub.Delivery, _ writer: WebSocketConnection.Writer) async throws {
        switch delivery {
        case .event(let event):
            try await writer.send(Self.frame(event.type, event.data, sequence: event.sequence, time: event.time))
        case .refreshed: try await sendList(writer)
        case .lagged(let missed):
            try await writer.send(
                Self.frame(
                    "lagged", .object(["missed": .integer(missed)]), sequence: await hub.lastSequence,
                    time: Timestamp.now()))
            try await sendList(writer)
        }
    }

    private static func frame(_ type: String, _ data: JSONValue, sequence: Int, time: Double) -> String {
        frame(type, data.jsonText, sequence: sequence, time: time)
    }

    /// `container` repeats `data` for older clients.
    ///
    /// - Parameters:
    ///   - type: one of ours, with nothing in it to be escaped.
    ///   - data: JSON.
    private static func frame(_ type: String, _ data: String, sequence: Int, time: Double) -> String {
        """
        {"container":\(data),"data":\(data),"seq":\(sequence),"timestamp":"\(Timestamp.text(seconds: time))","type":"\(type)"}
        """
    }

    private func answer(_ messages: WebSocketConnection.Messages, _ writer: WebSocketConnection.Writer) async throws {
        for try await message in messages {
            guard case .text(let text) = message,
                let value = try? JSONCoding.decode(JSONValue.self, from: text), value["type"] == .string("ping")
            else { continue }
            try await writer.send(#"{"type":"pong"}"#)
        }
    }

    private func watchToken(_ writer: WebSocketConnection.Writer) async throws {
        while true {
            try await Task.sleep(for: .seconds(Self.tokenCheckSeconds))
            await closeIfVoid(writer)
        }
    }

    /// A store that does not answer says nothing against a token: it is asked again.
    private func closeIfVoid(_ writer: WebSocketConnection.Writer) async {
        do {
            guard try await authenticator.caller(text) == nil else { return }
            await writer.close(code: 4401, reason: "the token is no longer valid")
        } catch {
            log.debug("a token cannot be checked", metadata: ["user": "\(caller.user.id)", "error": "\(error)"])
        }
    }
}
