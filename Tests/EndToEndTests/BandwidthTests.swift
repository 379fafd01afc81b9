import DockerEngine
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing
import TrafficControl

/// Limits of bandwidth, measured by transfers between a container and the host's own network.
extension RealParts {
    @Suite(.serialized) struct BandwidthLimits {
        @Test(.timeLimit(.minutes(5)), arguments: ["runc", "gvisor"])
        func `a transfer keeps to its limit in both directions, after a restart and a replacement too`(
            runtime: String
        ) async throws {
            let house = try await House("bandwidth-\(runtime)")
            let id = try await house.client.create(
                "limited", runtime: runtime, image: "debian", more: #","egress_kbps":8000,"ingress_kbps":16000"#)
            let entry = try await house.client.untilStatus("running", id)
            // Of the image that is there by now.
            let peer = try await Peer(house.engine)
            #expect(entry["resources"]?["egress_kbps"] == .integer(8000), "\(entry)")
            #expect(entry["resources"]?["unenforced"]?["egress_kbps"] == nil, "\(entry)")

            func measure(_ what: String, egress: Double, ingress: Double) async throws {
                let running = try #require(try await house.client.untilStatus("running", id)["id"]?.text)
                let sent = try await peer.rates(of: running, sends: true, limit: egress)
                #expect(Peer.keep(sent, to: egress), "\(what): \(sent) Mbit/s sent, \(egress) allowed")
                let received = try await peer.rates(of: running, sends: false, limit: ingress)
                #expect(Peer.keep(received, to: ingress), "\(what): \(received) Mbit/s received, \(ingress) allowed")
            }
            try await measure("at first", egress: 8, ingress: 16)

            #expect(try await house.client.call(.POST, "/api/containers/\(id)/stop").status == 200)
            #expect(try await house.client.call(.POST, "/api/containers/\(id)/start").status == 200)
            try await measure("after a restart", egress: 8, ingress: 16)

            let before = try await house.client.container(id).text("id")
            let slower = try await house.client.call(.PATCH, "/api/containers/\(id)", #"{"egress_kbps":4000}"#)
            #expect(slower.status == 200 && slower.body["restarted"] == .bool(false), "\(slower)")
            #expect(try await house.client.container(id).text("id") == before)
            try await measure("changed", egress: 4, ingress: 16)

            #expect(
                try await house.client.call(.PATCH, "/api/containers/\(id)", #"{"disk_mb":2048}"#).status == 200)
            #expect(try await house.client.container(id).text("id") != before)
            try await measure("in another container", egress: 4, ingress: 16)

            // The kernel keeps it while there is no agent, and the next one does not take it for another's.
            try await house.agent.killHard()
            try await house.agent.start()
            try await agentIsOnline(house.client, house.agent)
            let lifted = try await house.client.call(
                .PATCH, "/api/containers/\(id)", #"{"egress_kbps":0,"ingress_kbps":0}"#)
            #expect(lifted.status == 200, "\(lifted)")
            let running = try #require(try await house.client.untilStatus("running", id)["id"]?.text)
            for sends in [true, false] {
                let free = try await peer.rate(of: running, sends: sends)
                #expect(free > 40, "without a limit: \(free) Mbit/s")
            }
            #expect(!(try peer.isLimited(running)))
            try await peer.end()
            try await house.end()
        }

        @Test(.timeLimit(.minutes(3)))
        func `what was put there by hand is put right, and nothing outlives its container`() async throws {
            let house = try await House("bandwidth-hands")
            let id = try await house.client.create("limited", image: "debian", more: #","egress_kbps":8000"#)
            let entry = try await house.client.untilStatus("running", id)
            let container = try #require(entry["id"]?.text)
            #expect(entry["resources"]?["unenforced"]?["egress_kbps"] == nil, "\(entry)")
            let peer = try await Peer(house.engine)
            #expect(try peer.isLimited(container))
            try peer.remove(Peer.name(container))
            try await untilTrue("it is there again", within: 50) { try peer.isLimited(container) }
            let sent = try await peer.rates(of: container, sends: true, limit: 8)
            #expect(Peer.keep(sent, to: 8), "\(sent) Mbit/s sent, 8 allowed")

            #expect(try await house.client.call(.DELETE, "/api/containers/\(id)").status < 300)
            try await untilTrue("it is gone", within: 20) { try !peer.isLimited(container) }
            try await peer.end()
            try await house.end()
        }
    }
}

/// The other end of a transfer, in the network of the Engine's host.
private struct Peer {
    let engine: DockerEngine
    let id: String
    let pid: Int32
    let port: Int

    /// Sends or receives, as the first byte asks. Who receives measures, from when the bucket is empty on.
    private static let script = """
        use IO::Socket::INET;
        sub now { open(my $f, '<', '/proc/uptime'); return (split(' ', <$f>))[0] }
        # A socket of gVisor on the host's network says EAGAIN (11) although it blocks.
        sub rest { select(undef, undef, undef, 0.01) }
        sub pull { my ($s, $n) = @_; my $b; while ($n > 0) { my $r = sysread($s, $b, $n < 65536 ? $n : 65536);
          if (!defined $r && $! == 11) { rest(); next } die "cut off" unless $r; $n -= $r; } }
        sub measure { my $s = shift; pull($s, 200000); my $t = now; pull($s, 1500000);
          my $d = now() - $t;
          # On the wire each 1448 bytes are 1514.
          return sprintf("%.3f", 12 * 1514 / 1448 / ($d > 0.01 ? $d : 0.01)); }
        sub push_all { my $s = shift; my $b = "x" x 60000; for (1..29) { my $o = 0;
          while ($o < 60000) { my $w = syswrite($s, $b, 60000 - $o, $o);
            if (!defined $w) { return unless $! == 11; rest(); next } $o += $w } } }
        $SIG{PIPE} = 'IGNORE';
        """

    init(_ engine: DockerEngine) async throws {
        self.engine = engine
        port = Int.random(in: 20000..<30000)
        var host = ContainerSpecification.HostConfiguration()
        host.networkMode = "host"
        let server =
            Self.script + """
                my $l = IO::Socket::INET->new(LocalPort => \(port), Listen => 5, ReuseAddr => 1) or die "listen: $!";
                while (my $s = $l->accept) { next if fork; sysread($s, my $way, 1);
                  if ($way eq 'S') { my $rate = measure($s); syswrite($s, $rate) } else { push_all($s) } exit }
                """
        id = try await engine.createContainer(
            name: "peer-\(UUID().uuidString.prefix(8))",
            .init(
                image: "debian:bookworm", hostname: "peer", command: ["perl", "-e", server], environment: [],
                labels: [:],
                opensStandardInput: false, host: host)
        ).id
        try await engine.startContainer(id)
        pid = Int32(try await engine.inspectContainer(id).state.pid)
    }

    /// Millions of bits a second on the wire.
    func rate(of container: String, sends: Bool) async throws -> Double {
        let address = try #require(try await engine.inspectContainer(container).address)
        let gateway = address.split(separator: ".").dropLast().joined(separator: ".") + ".1"
        let client =
            Self.script + """
                my $s = IO::Socket::INET->new(PeerAddr => '\(gateway)', PeerPort => \(port)) or die "connect: $!";
                syswrite($s, '\(sends ? "S" : "R")');
                if (\(sends ? 1 : 0)) { push_all($s); my $rate;
                  rest() while !defined sysread($s, $rate, 20) && $! == 11; print $rate } else { print measure($s) }
                """
        let script = "perl -e '\(client.replacingOccurrences(of: "'", with: "'\\''"))' 2>&1; true"
        let said = try await engine.run(script, in: container)
        return try #require(Double(said), "\(said)")
    }

    /// Of a transfer and, as a busy machine makes them slower and never faster, of more where it was too slow.
    func rates(of container: String, sends: Bool, limit: Double) async throws -> [Double] {
        var rates: [Double] = []
        repeat {
            rates.append(try await rate(of: container, sends: sends))
        } while rates.count < 4 && rates.allSatisfy { $0 < limit * 0.9 }
        return rates
    }

    /// None was faster than allowed, and one had what it may have, within a tenth.
    static func keep(_ rates: [Double], to limit: Double) -> Bool {
        rates.allSatisfy { $0 < limit * 1.1 } && rates.contains { $0 > limit * 0.9 }
    }

    func isLimited(_ container: String) throws -> Bool {
        var control = try TrafficControl(inNamespaceOf: pid)
        return try control.links().contains { $0.name == Self.name(container) }
    }

    static func name(_ container: String) -> String { "bth\(container.prefix(12))" }

    func remove(_ interface: String) throws {
        var control = try TrafficControl(inNamespaceOf: pid)
        let link = try #require(try control.links().first { $0.name == interface })
        try control.remove(link.index)
    }

    func end() async throws { try await engine.removeContainer(id, force: .killFirst) }
}
