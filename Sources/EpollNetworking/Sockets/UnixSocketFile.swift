// SPDX-License-Identifier: Apache-2.0
import Glibc
import SystemPackage

// UnixSocketFile: the name of a Unix socket in the file system, which outlives the process that made it unless somebody
// removes it. Removes a name only when it is a socket nobody listens on, or the one made here.

struct UnixSocketFile: Sendable {
    /// Keeps other servers that start at the same time away from the names in a directory.
    ///
    /// Held from the look whether a name is used to the moment its new socket listens. On the directory itself, so that no
    /// file is left behind.
    struct Lock {
        private let descriptor: CInt
        let isHeld: Bool

        /// Waits for up to a second; a server holds it for less than a millisecond.
        init(beside path: String) {
            let end = path.lastIndex(of: "/")
            let directory = end.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
            self.descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard self.descriptor >= 0 else {
                self.isHeld = false
                return
            }
            var attempts = 200
            while flock(self.descriptor, LOCK_EX | LOCK_NB) != 0 {
                attempts -= 1
                guard attempts > 0, Glibc.errno == EWOULDBLOCK || Glibc.errno == EINTR else {
                    self.isHeld = false
                    return
                }
                usleep(5000)
            }
            self.isHeld = true
        }

        func release() { if self.descriptor >= 0 { _ = close(self.descriptor) } }
    }

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
