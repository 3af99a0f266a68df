"""The workflow of Kairos's user documentation, word for word, with kairos-agent replaced by sysgraft-agent."""
from guestview import merged, said, settle, text
from server import Server


def play(s):
    m, server = s.machine(), Server(s.lab.images, s.lab.server)
    m.boot()
    settle(m)
    m.run('mkdir -p /run/cos && echo 1 >/run/cos/active_mode')

    def good(step, command, timeout=240):
        done = m.run(command, timeout)
        s.check(step, done.code == 0, said(done))
        return done

    good('install over https', 'sysgraft-agent sysext install ' + server.url('app_1.0.sysext.raw'))
    listed = good('list', 'sysgraft-agent sysext list')
    s.check('list names it', 'app_1.0' in listed.out or 'app' in listed.out, listed.out)
    missing = m.run('sysgraft-agent sysext enable app')
    s.check('a profile must be named', missing.code in (1, 2) and 'either --active, --passive, --recovery or --common must be set' in missing.err, said(missing))
    good('enable by a short name', 'sysgraft-agent sysext enable --active --now ap')
    s.check('it is merged', merged(m) == ['app'] and text(m, '/usr/share/app/version') == '1.0', merged(m))
    listed = good('list --active', 'sysgraft-agent sysext list --active')
    s.check('list --active names it', 'app' in listed.out, listed.out)
    listed = good('list --passive', 'sysgraft-agent sysext list --passive')
    s.check('list --passive does not', 'app' not in listed.out, listed.out)
    good('remove --now', 'sysgraft-agent sysext remove --now ap')
    s.check('it is gone', merged(m) == [] and not m.run('test -e /usr/share/app').code == 0, merged(m))
    listed = good('list at the end', 'sysgraft-agent sysext list')
    s.check('list is empty', 'app' not in listed.out, listed.out)
    server.shutdown()
