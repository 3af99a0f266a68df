"""The life of an extension on a running machine: installed over https, enabled, upgraded badly and well, rolled back, removed."""
import json

from guestview import STORE, agent, enabled, merged, prepare, said, settle, text, verity
from server import Server


def play(s):
    m, server = s.machine(), Server(s.lab.images, s.lab.server)
    prepare(m, *enabled(s.lab.image('alpha')))
    m.boot()
    settle(m)
    always = {'alpha'}

    def kept(step):
        names = merged(m)
        s.check('%s: none is lost' % step, always <= set(names), names)

    def version():
        return text(m, '/usr/share/app/version')

    def good(step, arguments):
        done = agent(m, arguments)
        s.check(step, done.code == 0, said(done))
        kept(step)
        return done

    def refused(step, arguments):
        before = m.run('ls -RlA --time-style=full-iso %s | grep -v sysgraft' % STORE['sysext']).out
        done = agent(m, arguments)
        s.check('%s is refused' % step, done.code == 1, said(done))
        return done, before

    kept('boot')
    install = 'sysext install --ca-file /media/ca.pem '
    good('install', install + server.url('app_1.0.sysext.raw'))
    s.check('install alone merges nothing', 'app' not in merged(m))
    good('enable --now', 'sysext enable app --common --now')
    always.add('app')
    kept('enable --now')
    s.check('1.0 is merged', version() == '1.0', version())
    s.check('its service runs', m.run('systemctl is-active app.service').code == 0)
    s.check('under dm-verity', verity(m) >= 2, m.run('dmsetup status').out)
    again = m.run('journalctl -b --no-pager -o cat -u systemd-sysext | wc -l').out
    good('enable again', 'sysext enable app --common --now')
    s.check('which changes nothing', m.run('journalctl -b --no-pager -o cat -u systemd-sysext | wc -l').out == again)

    listed = good('list', 'sysext list --json').out
    s.check('list is JSON with app 1.0', 'app_1.0.sysext.raw' in json.dumps(json.loads(listed or 'null')), listed)
    status = good('status', 'sysext status --json').out
    s.check('status is JSON', isinstance(json.loads(status or 'null'), (list, dict)), status)

    upgrade = 'sysext upgrade --ca-file /media/ca.pem --health-timeout 20 '
    for step, bad, health in (('upgrade that fails its command', '2.0', '--health-cmd /usr/bin/app-check'),
                              ('upgrade that fails its unit', '3.0', '--health-unit app.service')):
        refused(step, '%s%s %s' % (upgrade, health, server.url('app_%s.sysext.raw' % bad)))
        kept(step)
        s.check('%s: back to 1.0' % step, version() == '1.0', version())
        s.check('%s: the service runs' % step, m.run('systemctl is-active app.service').code == 0 and text(m, '/run/app') == '1.0', text(m, '/run/app'))

    good('upgrade', upgrade + '--health-cmd /usr/bin/app-check --health-unit app.service ' + server.url('app_2.1.sysext.raw'))
    s.check('2.1 is merged', version() == '2.1', version())
    s.check('its service was restarted', text(m, '/run/app') == '2.1', text(m, '/run/app'))
    good('rollback', 'sysext rollback app')
    s.check('1.0 is merged again', version() == '1.0', version())

    for name, reason in (('tampered', 'block'), ('forged', 'signature'), ('stranger', 'sign'), ('unsigned', 'sign'), ('otheros', 'VERSION_ID')):
        done, before = refused('install of ' + name, install + server.url(name + '_1.0.sysext.raw'))
        s.check('and says why: ' + name, reason.lower() in done.err.lower(), done.err)
        after = m.run('ls -RlA --time-style=full-iso %s | grep -v sysgraft' % STORE['sysext']).out
        s.check('and leaves nothing: ' + name, before.split() == after.split() or name not in after, after[-200:])
    kept('refused installs')

    good('confext install', 'confext install --ca-file /media/ca.pem ' + server.url('site_1.0.confext.raw'))
    good('confext enable --now', 'confext enable site --common --now')
    s.check('configuration is there', text(m, '/etc/site/site.conf') == 'answer=42')
    good('confext disable --now', 'confext disable site --common --now')
    s.check('configuration is gone', merged(m, 'confext') == [])

    always.discard('app')
    good('disable --now', 'sysext disable app --common --now')
    s.check('app is not merged', 'app' not in merged(m), merged(m))
    good('enable --now again', 'sysext enable app_2.1 --common --now')
    s.check('the named version is merged', version() == '2.1', version())
    good('remove --now', 'sysext remove app_2.1 --now')
    s.check('removed: not merged', 'app' not in merged(m), merged(m))
    s.check('removed: file and links are gone', 'app_2.1' not in m.run('ls -R %s /run/extensions' % STORE['sysext']).out)
    server.shutdown()
