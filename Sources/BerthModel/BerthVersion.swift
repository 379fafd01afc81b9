/// The version of this source tree, the same for both programs.
package enum BerthVersion {
    package static let text = "0.1.0"
}
