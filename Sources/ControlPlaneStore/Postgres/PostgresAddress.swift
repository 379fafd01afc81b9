/// What an address says, as libpq reads it. The address itself may hold a password and is shown to nobody.
struct PostgresAddress {
    let host: String
    let port: String
    let database: String

    /// - Throws: `StoreFailure.unavailable`; libpq's own words can hold a part of the password and are not repeated.
    init(_ address: String) throws {
        let library = try PostgresLibrary.shared.get()
        var problem: UnsafeMutablePointer<CChar>?
        let options = library.parse(address, &problem)
        defer {
            library.freeOptions(options)
            library.free(problem)
        }
        guard let options else { throw Self.unreadable }
        var values: [String: String] = [:]
        var option = UnsafeRawPointer(options)
        // `PQconninfoOption`: keyword, environment variable, default, value, label, how to show it, size. Null ends them.
        while let keyword = option.load(as: UnsafePointer<CChar>?.self) {
            let value = option.load(fromByteOffset: 24, as: UnsafePointer<CChar>?.self)
            values[String(cString: keyword)] = value.map { String(cString: $0) }
            option += 56
        }
        host = values["host"] ?? values["hostaddr"] ?? ""
        port = values["port"] ?? ""
        database = values["dbname"] ?? ""
        // A password with an unwritten @ or / ends up as a part of these.
        guard !host.contains("@"), !port.contains("@"), !database.contains("@"),
            host.hasPrefix("/") || !host.contains("/")
        else { throw Self.unreadable }
    }

    private static let unreadable = StoreFailure.unavailable(
        "the address cannot be read; it is postgresql://USER@HOST:PORT/NAME?OPTION=VALUE, other characters written as %XX"
    )
}
