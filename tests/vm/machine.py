"""A machine under QEMU. Its disk outlives power cuts; what the host sends over a virtio port, it runs."""
import base64
import os
import socket
import subprocess
import time
from collections import namedtuple

from lab import CACHE, Broken

KERNEL = os.path.join(CACHE, 'vm', 'vmlinux')
Result = namedtuple('Result', 'code out err')
COMMAND_LINE = 'console=ttyS0 quiet loglevel=3 systemd.show_status=no mitigations=off panic=-1 oops=panic audit=0 apparmor=0 ' \
               'selinux=0 norandmaps net.ifnames=0'


class Machine:
    def __init__(self, root, media, folder):
        """`root`: what root-image made; `media`: a read-only disk; `folder`: for the disk, sockets and logs of this machine."""
        self.root, self.media, self.folder, self.process, self.boots = root, media, folder, None, 0
        os.makedirs(folder, exist_ok=True)
        self.disk = os.path.join(folder, 'disk.img')
        subprocess.run(['cp', '--sparse=always', os.path.join(root, 'root.img'), self.disk], check=True)
        self.network = 'user,id=net'
        self.firmware = None  # options of QEMU by which the machine starts, where not with the kernel at once
        self.up = 0.0

    def boot(self, timeout=180):
        """Switches the machine on and waits until it takes commands; gives the seconds that it took."""
        self.boots += 1
        port, marks = os.path.join(self.folder, 'port'), os.path.join(self.folder, 'marks')
        for stale in (port, marks):
            if os.path.exists(stale):
                os.unlink(stale)
        open(marks, 'w').close()
        self.marks = marks
        # One CPU boots faster than two; QEMU 7.2's cmpxchg16b crashes the guest at random, hence without cx16.
        command = [
            'qemu-system-x86_64', '-M', 'q35' + (',smm=on' if self.firmware else ''), '-accel', 'tcg,thread=multi,tb-size=512',
            '-cpu', 'max,-cx16', '-smp', '1', '-m', '1024', '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot',
            '-chardev', 'file,id=serial,append=on,path=' + os.path.join(self.folder, 'serial.log'), '-serial', 'chardev:serial',
            '-chardev', 'socket,id=port,server=on,wait=off,path=' + port, '-chardev', 'file,id=marks,path=' + marks,
            '-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=port,name=console', '-device', 'virtconsole,chardev=marks',
            '-netdev', self.network, '-device', 'virtio-net-pci,netdev=net,romfile=',
            '-drive', 'if=none,id=disk,format=raw,file=' + self.disk, '-device', 'virtio-blk-pci,drive=disk',
            '-drive', 'if=none,id=media,format=raw,readonly=on,file=' + self.media, '-device', 'virtio-blk-pci,drive=media',
            *(self.firmware or ['-kernel', KERNEL, '-initrd', os.path.join(self.root, 'initrd.cpio'), '-append', COMMAND_LINE])]
        started = time.time()
        self.log = open(os.path.join(self.folder, 'qemu.log'), 'ab')
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(port)
                break
            except OSError:
                self.socket.close()
                if self.process.poll() is not None or time.time() - started > 30:
                    self.cut()
                    raise Broken('QEMU did not start: ' + self.tail('qemu.log'))
                time.sleep(0.05)
        self.buffer, self.number = b'', 0
        line = self.line(started + timeout)
        if not line.startswith('ready '):
            raise Broken('the guest said %r instead of "ready"' % line[:80])
        self.up = time.time() - started
        return self.up

    def line(self, until):
        while b'\n' not in self.buffer:
            left = until - time.time()
            if left <= 0:
                raise Broken('no answer from the guest in time; console: ' + self.tail('serial.log'))
            self.socket.settimeout(left)
            try:
                more = self.socket.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                more = b''
            if not more:
                raise Broken('the guest is gone; console: ' + self.tail('serial.log'))
            self.buffer += more
        line, self.buffer = self.buffer.split(b'\n', 1)
        return line.decode()

    def tail(self, log):
        with open(os.path.join(self.folder, log), errors='replace') as file:
            return file.read()[-400:].strip() or 'nothing'

    def start(self, script):
        """Has the guest run a script, without waiting for it."""
        self.number += 1
        self.socket.sendall(b'%d %s\n' % (self.number, base64.b64encode(script.encode())))

    def finish(self, timeout=180):
        """Waits for the script that was started last."""
        number, code, *texts, _ = self.line(time.time() + timeout).split(' ')
        if int(number) != self.number:
            raise Broken('answer %s to script %d' % (number, self.number))
        out, err = (base64.b64decode(text).decode(errors='replace') for text in texts)
        return Result(int(code), out, err)

    def run(self, script, timeout=180):
        self.start(script)
        return self.finish(timeout)

    def marked(self):
        """What scripts wrote to /dev/hvc0 since the machine was switched on."""
        with open(self.marks, errors='replace') as marks:
            return marks.read()

    def cut(self):
        """Cuts the power: nothing that the guest has not written out reaches the disk."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.socket.close()
            self.log.close()
            self.process = None

    def save(self):
        """A copy of the disk of the machine, which is off."""
        copy = self.disk + '.saved'
        subprocess.run(['cp', '--sparse=always', self.disk, copy], check=True)
        return copy

    def restore(self, copy):
        subprocess.run(['cp', '--sparse=always', copy, self.disk], check=True)

    def off(self):
        """Writes everything out, then cuts the power: faster than a shutdown, and loses nothing."""
        self.run('sync')
        self.cut()
