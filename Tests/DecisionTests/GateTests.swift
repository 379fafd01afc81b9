import ControlPlaneCore
import Testing

/// Who may ask how often, and who is asking.
@Suite struct Gates {
    @Test func `a window of a minute allows as many as documented, and says when the next begins`() throws {
        let limit = RateLimit()
        for (kind, most) in [(RateLimit.Class.create, 10), (.operation, 60), (.list, 120)] {
            var window: RateLimit.Window?
            for count in 1...most {
                let verdict = try #require(limit.counting(kind, in: &window, at: 1000 + Double(count) / 10))
                #expect(verdict.isAllowed && verdict.remaining == most - count && verdict.limit == most)
            }
            let over = try #require(limit.counting(kind, in: &window, at: 1030))
            #expect(!over.isAllowed && over.remaining == 0 && (30...31).contains(over.retryAfter), "\(over)")
            #expect(limit.counting(kind, in: &window, at: over.resetAt)?.isAllowed == true)
            // A clock that was set back locks nobody out.
            #expect(limit.counting(kind, in: &window, at: 5)?.isAllowed == true)
        }
        var window: RateLimit.Window?
        #expect(RateLimit([.create: 0]).counting(.create, in: &window, at: 0) == nil)
    }

    @Test func `classes`() {
        #expect(RateLimit.class(method: "POST", path: "/api/containers") == .create)
        #expect(RateLimit.class(method: "POST", path: "/api/containers/") == .create)
        #expect(RateLimit.class(method: "POST", path: "/api/containers/x/start") == .operation)
        #expect(RateLimit.class(method: "DELETE", path: "/api/containers/x") == .operation)
        #expect(RateLimit.class(method: "GET", path: "/api/containers") == .list)
    }

    @Test func `ranges of addresses`() throws {
        let ten = try #require(AddressRange("10.0.0.0/8"))
        #expect(ten.contains("10.255.0.1") && !ten.contains("11.0.0.1") && !ten.contains("::1") && !ten.contains("x"))
        #expect(ten.contains("::ffff:10.1.2.3"))
        let odd = try #require(AddressRange("192.168.4.0/22"))
        #expect(odd.contains("192.168.7.255") && !odd.contains("192.168.8.0"))
        let six = try #require(AddressRange("fd00:1::/32"))
        #expect(six.contains("fd00:1:2::3") && !six.contains("fd00:2::1") && !six.contains("10.0.0.1"))
        #expect(try #require(AddressRange("::1")).contains("0:0:0:0:0:0:0:1"))
        #expect(try #require(AddressRange("0.0.0.0/0")).contains("8.8.8.8"))
        for bad in [
            "", "10", "10.0.0", "10.0.0.256", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/8/8", "localhost", "1.2.3.4 ",
            ":", ":::", "1::2::3", "12345::", "g::", "1:2:3:4:5:6:7:8:9", "::1/129", "+1.2.3.4",
            String(repeating: "1", count: 50),
        ] {
            #expect(AddressRange(bad) == nil, "\(bad)")
        }
    }

    @Test func `only trusted proxies say who a client is`() throws {
        let trusted = try ["10.0.0.0/8", "::1"].map { try #require(AddressRange($0)) }
        func client(_ peer: String, _ forwarded: String...) -> String {
            AddressRange.client(peer: peer, forwarded: forwarded, trusted: trusted)
        }
        #expect(client("203.0.113.9", "1.1.1.1") == "203.0.113.9")
        #expect(client("10.0.0.1", "198.51.100.7") == "198.51.100.7")
        // What a client wrote itself stands to the left of what the proxy saw.
        #expect(client("10.0.0.1", "9.9.9.9, 198.51.100.7") == "198.51.100.7")
        #expect(client("10.0.0.1", "9.9.9.9", "198.51.100.7, 10.0.0.2") == "198.51.100.7")
        #expect(client("10.0.0.1", "nonsense") == "10.0.0.1" && client("10.0.0.1") == "10.0.0.1")
        #expect(client("10.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3")
        #expect(client("::1", " 2001:db8::1 ") == "2001:db8::1")
        #expect(AddressRange.counted("2001:db8::1") == AddressRange.counted("2001:db8:0:0:ffff::9"))
        #expect(AddressRange.counted("2001:db8::1") != AddressRange.counted("2001:db8:0:1::1"))
        #expect(AddressRange.counted("10.0.0.1") == "10.0.0.1" && AddressRange.counted("") == "")
    }
}
