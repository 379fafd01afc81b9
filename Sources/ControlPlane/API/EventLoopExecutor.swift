import NIOCore

/// Runs tasks on the event loop of their connection: a request is worked on where it was read and answered from there.
/// Handing it to another thread and back costs more than most requests do.
///
/// What runs here must not wait for anything but by `await`: the loop's other connections would wait too.
final class EventLoopExecutor: TaskExecutor {
    private let loop: any EventLoop

    init(_ loop: any EventLoop) { self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        loop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
