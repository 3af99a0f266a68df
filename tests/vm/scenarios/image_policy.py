"""The strict image policy is in force at the very boot that makes it, and gives way to an unsigned image that is let in."""
from guestview import agent, enabled, merged, prepare, said, settle, text

DROP_IN = '/run/systemd/system/systemd-sysext.service.d/sysgraft.conf'
STRICT = '--image-policy=root=signed+absent:usr=absent'


def play(s):
    m = s.machine()
    server = s.lab.image('unsigned')
    files, links = enabled(s.lab.image('alpha'))
    prepare(m, {**files, '/srv/unsigned.raw': server}, links)
    m.boot()
    state, failed = settle(m)
    s.check('the machine runs', state == 'running', '%s %s' % (state, failed))
    s.check('it is merged', merged(m) == ['alpha'], merged(m))
    s.check('the drop-in is there', STRICT in text(m, DROP_IN), text(m, DROP_IN))
    started = m.run('systemctl show -P ExecStart systemd-sysext.service').out
    # What was run has a start time; what was only loaded later has none.
    s.check('systemd was started with it', STRICT in started and 'start_time=[n/a]' not in started, started)
    order = m.run('systemctl show -P ExecMainStartTimestampMonotonic -P ExecMainExitTimestampMonotonic sysgraft-boot.service systemd-sysext.service').out.split()
    s.check('after the links were made', len(order) == 4 and int(order[1]) <= int(order[2]), order)
    cycles = m.run('journalctl -b --no-pager -o cat -g "ordering cycle|Ordering cycle"').out
    s.check('no unit waits for itself', not cycles, cycles)
    s.check('the boot is complete', m.run('systemctl is-active boot-complete.target sysgraft-boot-complete.service').code == 0)
    s.check('and noted as such', '"completed": true' in text(m, '/var/lib/kairos/.sysgraft/boot-count.json'), text(m, '/var/lib/kairos/.sysgraft/boot-count.json'))
    for unit, limit in (('sysgraft-boot', 2), ('sysgraft-boot-complete', 2), ('sysgraft-gc', 2)):
        exposure = m.run('systemd-analyze security --no-pager %s.service | tail -n 1' % unit).out.split()
        level = next((float(word) for word in exposure if word.replace('.', '').isdigit()), 10)
        s.check('%s is hardened' % unit, level < limit, ' '.join(exposure))

    prepared = m.run('cat /run/sysgraft/boot.json').out
    s.check('boot.json says why', 'signed and trusted' in prepared, prepared[-300:])
    s.note('the unsigned image', server)
    gc = m.run('systemctl start sysgraft-gc.service; systemctl is-failed sysgraft-gc.service').out.strip()
    s.check('what is of no use is collected', gc != 'failed', gc or said(agent(m, 'sysext gc')))

    # What others left where systemd looks, on a node that requires signatures.
    m.run('mkdir -p /etc/sysgraft /var/lib/extensions/folder/usr/share && touch /var/lib/extensions/folder/usr/share/folder')
    m.run('cp /srv/unsigned.raw /var/lib/extensions/unsigned.raw; cp /srv/unsigned.raw /var/lib/extensions/.hidden.raw')
    m.run("echo 'signatures = \"required\"' >> /etc/sysgraft/agent.toml")
    refresh = 'systemd-sysext refresh ' + STRICT
    blocked = m.run(refresh)
    s.check('a foreign image blocks all others', blocked.code != 0, said(blocked))
    told = agent(m, 'boot')
    s.check('what is foreign is hidden', told.code == 0 and '"/run/extensions/unsigned"' in text(m, '/run/sysgraft/boot.json'), said(told))
    again = m.run(refresh)
    s.check('and blocks nothing', again.code == 0 and merged(m) == ['alpha'], '%s %s' % (merged(m), said(again)))
    m.run('systemctl restart systemd-sysext.service')
    s.check('nor when the service starts', merged(m) == ['alpha'], merged(m))
