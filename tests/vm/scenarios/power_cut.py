"""The power fails while an extension is installed and while it is upgraded: the old state or the new one, nothing lost."""
import re
import time

from guestview import STORE, agent, enabled, merged, prepare, said, settle, text
from lab import Broken
from server import Server

# Each of these system calls that the agent makes is told on a port, and then held up, so that the power can be cut there.
CALLS = 'rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,fsync,fdatasync,ftruncate'
TRACED = 'strace -f -qq -o /dev/hvc0 -e trace=%s -e inject=%s:delay_exit=%d sysgraft-agent ' % (CALLS, CALLS, 200000)


def play(s):
    server = Server(s.lab.images, s.lab.server)
    install = 'sysext install --ca-file /media/ca.pem ' + server.url('app_1.0.sysext.raw')
    upgrade = 'sysext upgrade --ca-file /media/ca.pem --health-cmd /usr/bin/app-check ' + server.url('app_2.1.sysext.raw')
    m = s.machine()
    prepare(m, *enabled(s.lab.image('alpha')))
    m.boot()
    settle(m)

    # In the middle of the download.
    server.bytes_per_second = 1 << 20
    m.start('sysgraft-agent ' + install)
    until(m, lambda: server.sent > 2 << 20, 'the download')
    server.bytes_per_second = 0
    after_cut(s, m, 'download', [''])
    asked = len(server.requests)
    rerun(s, m, 'download', install)
    s.note('download: asked for again from', [first for _, first in server.requests[asked:]])

    done = agent(m, 'sysext remove app')
    s.check('removed, to install again', done.code == 0, said(done))
    there = cut_at(m, TRACED + install, r'(rename|link)\w*\(.*app_1\.0\.sysext\.raw')
    if not s.check('naming: the power was cut when the image got its name', there):
        return
    after_cut(s, m, 'naming', [''])
    rerun(s, m, 'naming', install)
    done = agent(m, 'sysext enable app --common --now')
    s.check('enabled', done.code == 0 and text(m, '/usr/share/app/version') == '1.0', said(done))

    points = [r'symlink\w*\(.*app_2\.1|rename\w*\(.*/common/'] if s.quick else [1, 4, 7, 10, 14, 18, 22, 26, 30, 35, 40]
    base = None
    for point in points:
        if not s.quick:
            m.off()
            base = base or m.save()
            m.restore(base)
            m.boot()
            settle(m)
        step = 'upgrade, call %s' % point if isinstance(point, int) else 'upgrade, switching'
        if not cut_at(m, TRACED + upgrade, point):
            s.check('%s: the power was cut' % step, isinstance(point, int) and point > 7, 'the upgrade was over before')
            break
        after_cut(s, m, step, ['1.0', '2.1'])
        rerun(s, m, step, upgrade)
        s.check('%s: 2.1 is merged' % step, text(m, '/usr/share/app/version') == '2.1', text(m, '/usr/share/app/version'))
    server.shutdown()


def until(m, reached, what, timeout=120):
    """Waits for something, and cuts the power."""
    end = time.time() + timeout
    while not reached():
        if time.time() > end:
            raise Broken('%s did not come so far' % what)
        time.sleep(0.02)
    m.cut()


def cut_at(m, script, point):
    """Runs a script, and cuts the power at the call with that number, or at the first one like that. Whether there was one."""
    m.start(script + '; echo finished >/dev/hvc0')
    end = time.time() + 300
    while time.time() < end:
        said = m.marked()
        lines = said.splitlines()
        if isinstance(point, int) and len(lines) > point or not isinstance(point, int) and re.search(point, said):
            m.cut()
            return True
        if 'finished' in said:
            m.finish()
            m.off()
            return False
        time.sleep(0.02)
    raise Broken('the agent did not finish under strace')


def after_cut(s, m, step, versions):
    """Boots again: what was merged is, app is in one of the versions, and the agent's own view agrees."""
    m.boot()
    state, failed = settle(m)
    s.check('%s: the machine runs' % step, state == 'running', '%s %s' % (state, failed))
    names = merged(m)
    s.check('%s: none is lost' % step, 'alpha' in names and ('app' in names or '' in versions), names)
    version = text(m, '/usr/share/app/version')
    s.check('%s: old or new' % step, version in versions, 'version %r of %s' % (version, versions))
    status = agent(m, 'sysext status')
    s.check('%s: status' % step, status.code == 0, said(status))
    verified = agent(m, 'sysext verify')
    s.check('%s: what is in the store is whole' % step, verified.code == 0, said(verified))


def rerun(s, m, step, arguments):
    done = agent(m, arguments)
    s.check('%s: it succeeds when run again' % step, done.code == 0, said(done))
    left = m.run('cd %s/.sysgraft && find . -type f ! -name lock ! -name records.json' % STORE['sysext']).out
    s.check('%s: nothing is left over' % step, not left.strip(), left)
