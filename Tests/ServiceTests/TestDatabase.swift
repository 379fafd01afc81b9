import Foundation
import Testing

@testable import ControlPlaneStore

/// Both databases pass the same tests.
enum DatabaseKind: String, CaseIterable, Sendable { case sqlite, postgres }

/// An empty database, gone with its last user.
final class TestDatabase: Sendable {
    let place: DatabasePlace
    private let folder: Folder?
    let name: String?

    init(_ kind: DatabaseKind) async throws {
        switch kind {
        case .sqlite:
            let folder = try Folder()
            (self.folder, name) = (folder, nil)
            place = .sqlite(path: folder.path + "/db")
        case .postgres:
            let name = "test_" + UUID().uuidString.lowercased().replacing("-", with: "")
            try await Self.execute("CREATE DATABASE \(name)")
            (folder, self.name) = (nil, name)
            place = .postgres(address: try Self.address(name), connections: 8)
        }
    }

    deinit {
        guard let name else { return }
        Task.detached { try await Self.execute("DROP DATABASE \(name) WITH (FORCE)") }
    }

    func open(migrates: Bool = true) async throws -> Store { try await Store.open(place, migrates: migrates) }

    /// Of a database on the tests' own server.
    static func address(_ name: String) throws -> String {
        guard let server = ProcessInfo.processInfo.environment["BERTH_POSTGRES"] else {
            throw Missing(description: "BERTH_POSTGRES is not set; scripts/test does, and scripts/test-postgres up")
        }
        return server.replacing("/postgres?", with: "/\(name)?")
    }

    /// Outside a transaction, as making a database must be.
    static func execute(_ sql: String, in name: String = "postgres") async throws {
        let connection = try await PostgresConnection.open(try PostgresLibrary.shared.get(), try address(name))
        try await connection.perform { try $0.execute(sql) }
    }

    struct Missing: Error, CustomStringConvertible { var description: String }
}
