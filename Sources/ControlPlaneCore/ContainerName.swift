/// Names of containers: 1 to 64 letters, digits and hyphens.
package enum ContainerName {
    package static func isValid(_ name: String) -> Bool {
        (1...64).contains(name.utf8.count)
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
    }

    /// A name like `swift-lion-742`.
    package static func generated(using random: inout some RandomNumberGenerator) -> String {
        let qualities = [
            "swift", "calm", "brave", "bright", "quiet", "clever", "gentle", "keen", "lucky", "merry", "noble", "proud",
            "rapid", "sunny", "tidy", "warm",
        ]
        let animals = [
            "lion", "bear", "otter", "heron", "fox", "lynx", "whale", "raven", "seal", "stork", "tern", "wolf", "crane",
            "finch", "ibis", "puffin",
        ]
        let quality = qualities.randomElement(using: &random) ?? "swift"
        let animal = animals.randomElement(using: &random) ?? "lion"
        return "\(quality)-\(animal)-\(Int.random(in: 100...999, using: &random))"
    }
}
