import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import ControlPlane

/// What is announced after changes, beside the requests that made them.
@Suite struct AnnouncementTests {
    private final class Heard: Sendable {
        private let all = Mutex<[String]>([])
        var list: [String] { all.withLock { $0 } }
        func hear(_ word: String, and act: () -> Void = {}) {
            all.withLock {
                $0.append(word)
                act()
            }
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func `each is announced once, in the order of the changes, whichever loops they come from`() async {
        let (announcements, changes, heard) = (Announcements(), Heard(), Heard())
        let loops = MultiThreadedEventLoopGroup(numberOfThreads: 4)
        await withDiscardingTaskGroup { group in
            for writer in 0..<8 {
                group.addTask(executorPreference: EventLoopExecutor(loops.next())) {
                    for number in 0..<500 {
                        // As two changes of one container are: one is durable before the next begins.
                        let word = "\(writer) \(number)"
                        changes.hear(word) {
                            announcements.add {
                                if number % 7 == 0 { await Task.yield() }
                                heard.hear(word)
                            }
                        }
                        if number % 50 == 0 { await Task.yield() }
                    }
                }
            }
        }
        await announcements.flush()
        #expect(heard.list == changes.list)
        try? await loops.shutdownGracefully()
    }

    @Test func `on an event loop the answer comes first`() async throws {
        let (announcements, heard) = (Announcements(), Heard())
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        try await loop.submit {
            announcements.add { heard.hear("announcement") }
            heard.hear("answer")
        }.get()
        await announcements.flush()
        #expect(heard.list == ["answer", "announcement"])
    }

    @Test(.timeLimit(.minutes(1)))
    func `flushing waits for what is under way, and for nothing where nothing is`() async {
        let (announcements, heard) = (Announcements(), Heard())
        await announcements.flush()
        announcements.add {
            try? await Task.sleep(for: .milliseconds(50))
            heard.hear("slow")
            announcements.add { heard.hear("its consequence") }
        }
        await announcements.flush()
        #expect(heard.list == ["slow", "its consequence"])
    }
}
