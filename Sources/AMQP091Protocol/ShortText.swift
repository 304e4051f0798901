// SPDX-License-Identifier: Apache-2.0

// ShortText: reply texts that fit into a short string (§4.2.5.3). A text that quotes the peer can be of any length.

enum ShortText {
    /// Returns the longest prefix of at most 255 octets of UTF-8 that ends between two characters.
    static func cut(_ text: String) -> String {
        guard text.utf8.count > 255 else { return text }
        var cut = ""
        var octets = 0
        for character in text.unicodeScalars {
            octets += UTF8.width(character)
            if octets > 255 { break }
            cut.unicodeScalars.append(character)
        }
        return cut
    }
}
