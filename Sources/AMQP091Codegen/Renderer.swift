// SPDX-License-Identifier: Apache-2.0

// Renderer: renders MethodTable as Swift source: one file per class, and Method.swift with the enum of all methods.
// Pure: returns text and writes no file (Codegen does), so that a test can compare it with the checked-in files.

/// A generated file.
struct RenderedFile: Sendable {
    var name: String
    var text: String
}

struct Renderer: Sendable {
    var classes: [ClassFacts]

    init(classes: [ClassFacts] = MethodTable.classes) { self.classes = classes }

    func files() -> [RenderedFile] {
        self.classes.map { RenderedFile(name: "\(Self.typeName($0.name)).swift", text: self.file(of: $0)) }
            + [RenderedFile(name: "Method.swift", text: self.methodFile())]
    }

    // MARK: One class

    private func file(of facts: ClassFacts) -> String {
        var out = Self.heading("\(Self.typeName(facts.name)): the methods of class \(facts.name) (\(facts.id)).")
        out += "\n/// The methods of class \(facts.name) (\(facts.id)).\n"
        out += "package enum \(Self.typeName(facts.name)) {\n"
        out += facts.methods.map { Self.methodStruct($0, in: facts) }.joined(separator: "\n")
        out += "}\n"
        for method in facts.methods where method.replies.count == 1 { out += Self.request(method, in: facts) }
        return out
    }

    /// The reply of a method that has one.
    private static func request(_ facts: MethodFacts, in owner: ClassFacts) -> String {
        let ownerName = Self.typeName(owner.name)
        let reply = Self.typeName(facts.replies[0])
        var out = "\nextension \(ownerName).\(Self.typeName(facts.name)): Request {\n"
        out += "    package static var replyID: MethodID { \(ownerName).\(reply).id }\n"
        out += "    package var method: Method { .\(owner.name)\(Self.typeName(facts.name))(self) }\n"
        out += "    package static func reply(_ method: Method) -> \(ownerName).\(reply)? {\n"
        out += "        if case .\(owner.name)\(reply)(let reply) = method { reply } else { nil }\n"
        return out + "    }\n}\n"
    }

    private static func methodStruct(_ facts: MethodFacts, in owner: ClassFacts) -> String {
        let arguments = Argument.parse(facts.arguments)
        let fields = arguments.filter { !$0.isReserved }
        var out = "    /// `\(owner.name).\(facts.name)` (\(owner.id), \(facts.id)).\n"
        out += "    package struct \(self.typeName(facts.name)): Hashable, Sendable {\n"
        out += "        /// (\(owner.id), \(facts.id))\n"
        out += "        package static let id = MethodID(classID: \(owner.id), methodID: \(facts.id))\n\n"
        for field in fields { out += "        package var \(field.escapedName): \(field.type.swiftName)\n" }
        if !fields.isEmpty { out += "\n" }
        out += self.memberwiseInit(fields)
        out += "\n        package init(from reader: inout WireReader) throws(WireError) {\n"
        out += self.statements(arguments, bits: self.decodeBits, other: { $0.decoding })
        out += "        }\n\n"
        out += "        package func encode(into buffer: inout WireBuffer) throws(WireError) {\n"
        out += self.statements(arguments, bits: self.encodeBits, other: { $0.encoding })
        out += "        }\n"
        return out + "    }\n"
    }

    private static func memberwiseInit(_ fields: [Argument]) -> String {
        guard !fields.isEmpty else { return "        package init() {}\n" }
        var out = "        package init(\n"
        out += fields.map { "            \($0.name): \($0.type.swiftName)\($0.defaultClause)" }.joined(separator: ",\n")
        out += "\n        ) {\n"
        for field in fields { out += "            self.\(field.name) = \(field.escapedName)\n" }
        return out + "        }\n"
    }

    /// Renders one line per argument, and one group of lines per run of bits, which share an octet.
    private static func statements(
        _ arguments: [Argument],
        bits: (ArraySlice<Argument>) -> [String],
        other: (Argument) -> String
    ) -> String {
        var lines: [String] = []
        var rest = arguments[...]
        while let first = rest.first {
            if first.type == .bit {
                let run = rest.prefix { $0.type == .bit }
                lines += bits(run)
                rest = rest.dropFirst(run.count)
            } else {
                lines.append(other(first))
                rest = rest.dropFirst()
            }
        }
        return lines.map { "            \($0)\n" }.joined()
    }

    private static func decodeBits(_ run: ArraySlice<Argument>) -> [String] {
        guard run.contains(where: { !$0.isReserved }) else { return ["_ = try reader.readUInt8()"] }
        return ["let bits = try reader.readUInt8()"]
            + zip(0..., run).filter { !$0.1.isReserved }.map { "self.\($1.name) = bits & \(1 << $0) != 0" }
    }

    private static func encodeBits(_ run: ArraySlice<Argument>) -> [String] {
        guard run.contains(where: { !$0.isReserved }) else { return ["buffer.append(0)"] }
        return ["var bits: UInt8 = 0"]
            + zip(0..., run).filter { !$0.1.isReserved }.map { "if self.\($1.name) { bits |= \(1 << $0) }" }
            + ["buffer.append(bits)"]
    }

    // MARK: All methods

    private func methodFile() -> String {
        var out = Self.heading("Method: the enum of all methods, and their names.")
        out += "\n/// A method with its arguments.\n"
        out += "package enum Method: Hashable, Sendable {\n"
        out += self.lines { "    case \($0.caseName)(\($0.typePath))" }
        out += "\n    /// The method's class and number.\n    package var id: MethodID {\n        switch self {\n"
        out += self.lines { "        case .\($0.caseName): \($0.typePath).id" }
        out += "        }\n    }\n"
        out += "\n    /// Whether a content header and body follow.\n    package var hasContent: Bool {\n"
        out += "        switch self {\n        case "
        out += self.entries.filter(\.method.hasContent).map { ".\($0.caseName)" }.joined(separator: ", ") + ": true\n"
        out += "        default: false\n        }\n    }\n"
        out += "\n    /// Reads the arguments of the method `id`.\n"
        out += "    package init(_ id: MethodID, from reader: inout WireReader) throws(WireError) {\n"
        out += "        switch id.number {\n"
        out += self.lines {
            "        case \($0.number): self = .\($0.caseName)(try \($0.typePath)(from: &reader))"
        }
        out += "        default: throw WireError(.unknownMethod(classID: id.classID, methodID: id.methodID))\n"
        out += "        }\n    }\n"
        out += "\n    /// Appends the arguments.\n"
        out += "    package func encodeArguments(into buffer: inout WireBuffer) throws(WireError) {\n"
        out += "        switch self {\n"
        out += self.lines { "        case .\($0.caseName)(let method): try method.encode(into: &buffer)" }
        out += "        }\n    }\n}\n"
        out += "\nextension MethodID {\n"
        out += self.lines {
            "    /// `\($0.owner.name).\($0.method.name)`.\n"
                + "    public static let \($0.caseName) = Self(classID: \($0.owner.id), methodID: \($0.method.id))"
        }
        out += "\n    /// The name, such as \"basic.publish\"; nil for an unknown method.\n"
        out += "    package var name: String? {\n        switch self.number {\n"
        out += self.lines { "        case \($0.number): \"\($0.owner.name).\($0.method.name)\"" }
        out += "        default: nil\n        }\n    }\n"
        out += "\n    /// The methods that answer this one; none for an asynchronous or unknown method.\n"
        out += "    package var replies: [MethodID] {\n        switch self.number {\n"
        out += self.entries.filter { !$0.method.replies.isEmpty }.map { entry in
            let replies = entry.method.replies.map {
                "\(Self.typeName(entry.owner.name)).\(Self.typeName($0)).id"
            }
            return "        case \(entry.number): [\(replies.joined(separator: ", "))]\n"
        }.joined()
        out += "        default: []\n        }\n    }\n"
        return out + "}\n"
    }

    private struct Entry {
        var owner: ClassFacts
        var method: MethodFacts
        var typePath: String { "\(Renderer.typeName(self.owner.name)).\(Renderer.typeName(self.method.name))" }
        var caseName: String { self.owner.name + Renderer.typeName(self.method.name) }
        /// Class and method as one number, in hexadecimal.
        var number: String {
            let number = UInt32(self.owner.id) << 16 | UInt32(self.method.id)
            let digits = String(number, radix: 16, uppercase: true)
            return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
        }
    }

    private var entries: [Entry] {
        self.classes.flatMap { owner in owner.methods.map { Entry(owner: owner, method: $0) } }
    }

    private func lines(_ line: (Entry) -> String) -> String {
        self.entries.map { line($0) + "\n" }.joined()
    }

    // MARK: Text

    private static func heading(_ summary: String) -> String {
        """
        // SPDX-License-Identifier: Apache-2.0
        // swift-format-ignore-file

        // \(summary)
        // Generated by `swift run AMQP091Codegen` from its MethodTable. Do not edit.

        """
    }

    /// "bind-ok" as "BindOk".
    static func typeName(_ name: String) -> String {
        name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
    }
}
