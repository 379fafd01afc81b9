import AgentCore
import BerthModel
import Testing

/// A generation is bound to the image that its reference meant when its first container was made.
@Suite struct ImagePins {
    private let reference = "alpine:latest"
    private let digest = "alpine@sha256:aa"

    private func memory(digest: String?) -> ReconcileMemory {
        var memory = ReconcileMemory()
        var own = ReconcileMemory.WorkloadMemory(generation: 1)
        own.pinned = .init(imageID: "sha256:old", digest: digest)
        memory.workloads[Sample.id] = own
        return memory
    }

    private func action(_ images: [String: ImagePresence], _ memory: ReconcileMemory) -> Step.Action? {
        Sample.plan([Sample.desired()], Sample.host(images: images), memory: memory).steps.first?.action
    }

    private func image(_ action: Step.Action?) -> String? {
        if case .create(let order)? = action { order.image } else { nil }
    }

    @Test func `while the reference means the same image the Engine is told the reference`() {
        let images: [String: ImagePresence] = [reference: .present(imageID: "sha256:old")]
        #expect(image(action(images, memory(digest: digest))) == reference)
    }

    @Test func `where the reference means another one by now the Engine is told the id`() {
        let images: [String: ImagePresence] = [
            reference: .present(imageID: "sha256:new"), "sha256:old": .present(imageID: "sha256:old"),
        ]
        #expect(image(action(images, memory(digest: digest))) == "sha256:old")
    }

    @Test func `what is gone is pulled by its digest, once, and then what is there must do`() {
        let images: [String: ImagePresence] = [reference: .present(imageID: "sha256:new"), "sha256:old": .absent]
        let before = memory(digest: digest)
        let pull = action(images, before)
        #expect(pull == .pull(image: digest))
        let step = Step(workload: Sample.id, generation: 1, action: .pull(image: digest), reason: "")
        let after = before.recording(.init(step: step, result: .succeeded), now: Sample.now, random: 0)
        #expect(image(action(images, after)) == reference, "no pull without end")
        #expect(image(action(images, memory(digest: nil))) == reference)
    }

    @Test func `a look that comes before the answer to the create costs no digest`() {
        let images: [String: ImagePresence] = [reference: .present(imageID: "sha256:1", digest: digest)]
        guard let step = Sample.plan([Sample.desired()], Sample.host(images: images)).steps.first else {
            Issue.record("nothing is made")
            return
        }
        let desired = DesiredState(revision: Revision(1), workloads: [Sample.desired()])
        let seen = ReconcileMemory().launching(step, at: Sample.now).noticing(
            Sample.host([Sample.container("c", .created)]), desired: desired, now: Sample.now, random: 0)
        #expect(seen.workloads[Sample.id]?.pinned?.imageID == "sha256:1")
        let answered = seen.recording(.init(step: step, result: .succeeded), now: Sample.now, random: 0)
        #expect(answered.workloads[Sample.id]?.pinned?.digest == digest)
    }
}
