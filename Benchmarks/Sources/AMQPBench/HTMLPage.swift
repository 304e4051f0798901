// SPDX-License-Identifier: Apache-2.0
import Foundation

// HTMLPage: the page around a result: one file that needs nothing else, with plots as inline SVG and the result itself as
// JSON. No script runs. It follows the reader's light or dark colours and prints on one page.

/// A page.
struct HTMLPage: Sendable {
    var title: String
    /// Lines below the title; the last one is set off.
    var head: [String]
    /// Markup.
    var body: String
    /// What the page was made of.
    var json: Data

    /// The whole page.
    var text: String {
        let json = String(decoding: self.json, as: UTF8.self).replacing("<", with: "\\u003C")
        let last = self.head.count - 1
        let head = self.head.enumerated().map { index, line in
            "<p\(index == last ? " class=\"note\"" : "")>\(HTML.escape(line))</p>"
        }
        return """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <title>\(HTML.escape(self.title))</title>
            <style>\(Self.style)</style>
            </head>
            <body>
            <header>
            <h1>\(HTML.escape(self.title))</h1>
            \(head.joined(separator: "\n"))
            </header>
            \(self.body)
            <script type="application/json" id="result">\(json)</script>
            </body>
            </html>

            """
    }

    private static let style = """

        :root { --ink: #1b1f24; --soft: #5b6570; --paper: #fff; --card: #f5f6f8; --line: #dde1e6;
          --c1: #0a66c2; --c2: #c2570a; --c3: #8250df; --c4: #1a7f37; --c5: #b08800; --c6: #d1247b;
          --c7: #0e7c86; --c8: #6b4f2a; --c9: #5b6bc0; --c10: #a4262c; --c11: #4d7c0f; --c12: #7a7f87; --bad: #c01b24; }
        @media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --paper: #14171a;
          --card: #1e2227; --line: #333a42; --c1: #5aa9f5; --c2: #f0954a; --c3: #b392f0; --c4: #56c271; --c5: #d9b84a; --c6: #f778ba;
          --c7: #4cc9d4; --c8: #c9a56b; --c9: #9aa8ff; --c10: #ff8f87; --c11: #a3d95b; --c12: #c3c8cf;
          --bad: #ff7b80; } }
        * { box-sizing: border-box; }
        body { margin: 0 auto; max-width: 1080px; padding: 24px; color: var(--ink); background: var(--paper);
          font: 14px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
        h1 { font-size: 22px; margin: 0 0 4px; } header p { margin: 2px 0; white-space: pre-wrap;
          overflow-wrap: anywhere; } .note { color: var(--soft); }
        .tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0; }
        .tile { background: var(--card); border-radius: 8px; padding: 10px 16px; flex: 1 1 150px; }
        .tile span { display: block; color: var(--soft); } .tile strong { font-size: 18px; overflow-wrap: anywhere; }
        .tile.long { flex-basis: 230px; } .tile.long strong { font-size: 13px; font-weight: 500; }
        .bad, .bad strong { color: var(--bad); }
        .plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr));
          gap: 16px; }
        figure { margin: 0; } figcaption i { color: var(--soft); font-style: normal; }
        svg { width: 100%; height: auto; display: block; }
        .grid { stroke: var(--line); } .tick { fill: var(--soft); font-size: 15px; } .shade { fill: var(--card); }
        .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
        .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); } .c4 { --c: var(--c4); }
        .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); } .c8 { --c: var(--c8); }
        .c9 { --c: var(--c9); } .c10 { --c: var(--c10); } .c11 { --c: var(--c11); } .c12 { --c: var(--c12); }
        .line { stroke: var(--c); } .dot { fill: var(--c); } .dashed { stroke-dasharray: 6 4; }
        .fault { fill: var(--bad); opacity: .18; }
        .key { white-space: nowrap; }
        .key::before { content: ""; display: inline-block; width: 14px; height: 3px; margin: 0 4px 4px 10px;
          background: var(--c); }
        .tables { display: flex; align-items: flex-start; flex-wrap: wrap; gap: 24px; margin: 16px 0; }
        .wide { overflow-x: auto; max-width: 100%; }
        table { border-collapse: collapse; } th, td { text-align: right; padding: 3px 10px; white-space: nowrap;
          border-bottom: 1px solid var(--line); } th:first-child, td:first-child { text-align: left; padding-left: 0; }
        th { color: var(--soft); font-weight: 500; } .notes { padding-left: 18px; }
        @media (max-width: 500px) { body { padding: 12px; } .tick { font-size: 20px; } .tables { gap: 12px; }
          th, td { padding: 3px 6px; } .notes { overflow-wrap: anywhere; } }
        @media print { body { padding: 0; font-size: 11px; } .plots { grid-template-columns: 1fr 1fr; }
          details { display: none; } .tile { padding: 6px 10px; border: 1px solid var(--line); flex: 1 1 90px; }
          .tile strong { font-size: 14px; } }

        """
}

/// Text in HTML.
enum HTML {
    static func escape(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
            .replacing("\"", with: "&quot;")
    }

    /// A table of text; rows that are bad are red.
    static func table(_ head: [String], _ rows: [[String]], bad: Set<Int> = []) -> String {
        let cells = { (tag: String, row: [String], isBad: Bool) in
            (isBad ? "<tr class=\"bad\">" : "<tr>") + row.map { "<\(tag)>\(Self.escape($0))</\(tag)>" }.joined()
                + "</tr>"
        }
        return
            "<div class=\"wide\"><table><thead>\(cells("th", head, false))</thead>"
            + "<tbody>\(rows.enumerated().map { cells("td", $1, bad.contains($0)) }.joined())</tbody></table></div>"
    }
}
