// SPDX-License-Identifier: Apache-2.0
import Glibc
import SystemPackage

// UnixSocketFile: the name of a Unix socket in the file system, which outlives the process that made it unless somebody
// removes it. Removes a name only when it is a socket nobody listens on, or the one made here.

struct UnixSocketFile: Sendable {
    private let path: String
    private let device: dev_t
    private let inode: ino_t

    /// The file at `path`, as it is now.
    init?(path: String) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return nil }
        self.path = path
        self.device = status.st_dev
        self.inode = status.st_ino
    }

    /// Removes the name, unless another socket has taken it meanwhile.
    func remove() {
        guard let now = UnixSocketFile(path: self.path), now.device == self.device, now.inode == self.inode else {
            return
        }
        _ = unlink(self.path)
    }

    /// Removes the name of a socket whose process is gone; false when it is in use, or no socket.
    static func removeStale(path: String) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return false }
        do throws(SystemError) {
            let probe = try StreamSocket(family: AF_UNIX)
            _ = try probe.beginConnect(to: .unix(path: path))
            return false
        } catch {
            guard error.errno == .connectionRefused else { return false }
            return unlink(path) == 0
        }
    }
}
