import Glibc

/// PostgreSQL's own client library, opened when it is first needed: who uses SQLite need not have it (decision 0020).
/// The signatures are those of its documented interface, which has been stable since version 9.
struct PostgresLibrary: Sendable {
    typealias Handle = OpaquePointer
    typealias ResultHandle = OpaquePointer
    typealias Text = UnsafePointer<CChar>

    let connect: @convention(c) (UnsafePointer<Text?>?, UnsafePointer<Text?>?, CInt) -> Handle?
    let finish: @convention(c) (Handle?) -> Void
    let status: @convention(c) (Handle?) -> CInt
    let errorMessage: @convention(c) (Handle?) -> Text?
    let serverVersion: @convention(c) (Handle?) -> CInt
    let socket: @convention(c) (Handle?) -> CInt
    let transactionStatus: @convention(c) (Handle?) -> CInt
    let execute: @convention(c) (Handle?, Text) -> ResultHandle?
    let executeWithParameters:
        @convention(c) (
            Handle?, Text, CInt, UnsafePointer<CUnsignedInt>?, UnsafePointer<Text?>?, UnsafePointer<CInt>?,
            UnsafePointer<CInt>?, CInt
        ) -> ResultHandle?
    let clear: @convention(c) (ResultHandle?) -> Void
    let resultStatus: @convention(c) (ResultHandle?) -> CInt
    let resultErrorField: @convention(c) (ResultHandle?, CInt) -> Text?
    let rowCount: @convention(c) (ResultHandle?) -> CInt
    let columnCount: @convention(c) (ResultHandle?) -> CInt
    let columnName: @convention(c) (ResultHandle?, CInt) -> Text?
    let columnType: @convention(c) (ResultHandle?, CInt) -> CUnsignedInt
    let isNull: @convention(c) (ResultHandle?, CInt, CInt) -> CInt
    let value: @convention(c) (ResultHandle?, CInt, CInt) -> Text?
    let length: @convention(c) (ResultHandle?, CInt, CInt) -> CInt
    let changes: @convention(c) (ResultHandle?) -> Text?
    let commandTag: @convention(c) (ResultHandle?) -> Text?
    let consumeInput: @convention(c) (Handle?) -> CInt
    let notification: @convention(c) (Handle?) -> UnsafeMutableRawPointer?
    let free: @convention(c) (UnsafeMutableRawPointer?) -> Void
    let parse: @convention(c) (Text, UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> OpaquePointer?
    let freeOptions: @convention(c) (OpaquePointer?) -> Void
    let ignoreNotices:
        @convention(c) (Handle?, (@convention(c) (UnsafeMutableRawPointer?, Text?) -> Void)?, UnsafeMutableRawPointer?)
            -> UnsafeMutableRawPointer?

    /// `CONNECTION_OK`
    static let isConnected: CInt = 0
    /// `PGRES_COMMAND_OK` and `PGRES_TUPLES_OK`
    static let successes: Set<CInt> = [1, 2]
    /// `PG_DIAG_SQLSTATE` and `PG_DIAG_MESSAGE_PRIMARY`
    static let stateField = CInt(UInt8(ascii: "C"))
    static let messageField = CInt(UInt8(ascii: "M"))
    /// `PQTRANS_IDLE`
    static let outsideTransaction: CInt = 0

    static let shared = Result<PostgresLibrary, StoreFailure> { () throws(StoreFailure) in
        guard let library = dlopen("libpq.so.5", RTLD_NOW | RTLD_LOCAL) else {
            throw StoreFailure.unavailable(
                "libpq.so.5, PostgreSQL's client library, cannot be opened; on Debian: apt-get install libpq5")
        }
        return try PostgresLibrary(library)
    }

    private init(_ library: UnsafeMutableRawPointer) throws(StoreFailure) {
        func symbol<Function>(_ name: String, _ type: Function.Type = Function.self) throws(StoreFailure) -> Function {
            guard let address = dlsym(library, name) else {
                throw StoreFailure.unavailable("libpq.so.5 has no \(name): it is too old")
            }
            return unsafeBitCast(address, to: type)
        }
        connect = try symbol("PQconnectdbParams")
        finish = try symbol("PQfinish")
        status = try symbol("PQstatus")
        errorMessage = try symbol("PQerrorMessage")
        serverVersion = try symbol("PQserverVersion")
        socket = try symbol("PQsocket")
        transactionStatus = try symbol("PQtransactionStatus")
        execute = try symbol("PQexec")
        executeWithParameters = try symbol("PQexecParams")
        clear = try symbol("PQclear")
        resultStatus = try symbol("PQresultStatus")
        resultErrorField = try symbol("PQresultErrorField")
        rowCount = try symbol("PQntuples")
        columnCount = try symbol("PQnfields")
        columnName = try symbol("PQfname")
        columnType = try symbol("PQftype")
        isNull = try symbol("PQgetisnull")
        value = try symbol("PQgetvalue")
        length = try symbol("PQgetlength")
        changes = try symbol("PQcmdTuples")
        commandTag = try symbol("PQcmdStatus")
        consumeInput = try symbol("PQconsumeInput")
        notification = try symbol("PQnotifies")
        free = try symbol("PQfreemem")
        parse = try symbol("PQconninfoParse")
        freeOptions = try symbol("PQconninfoFree")
        ignoreNotices = try symbol("PQsetNoticeProcessor")
    }
}
