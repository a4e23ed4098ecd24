from __future__ import annotations

import socket
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from canvaslite.pools.prefork import frames
from canvaslite.protocol.job import Job, Verdict

jobs = st.builds(
    Job, st.sampled_from([0, 1]), st.binary(max_size=300), st.binary(max_size=3000), st.text(max_size=20),
    st.text(alphabet=st.characters(blacklist_characters='\0', blacklist_categories=['Cs']), max_size=20), st.booleans(),
    st.none() | st.builds(Verdict, st.sampled_from(['lost', 'expired']), st.text(max_size=20)))


def plain(job: Job) -> bool:
    return '\0' not in job.exchange


@given(st.lists(jobs.filter(plain), min_size=1, max_size=20), st.integers(1, 500))
@settings(max_examples=50, deadline=None)
def test_jobs_arrive_as_they_were_sent_however_they_are_cut(sent: list[Job], size: int) -> None:
    near, far = socket.socketpair()
    data = b''.join(frames.encode_job(seq, job) for seq, job in enumerate(sent)) + frames.CLOSING

    def write() -> None:
        for offset in range(0, len(data), size):
            near.sendall(data[offset:offset + size])

    writer = threading.Thread(target=write)
    writer.start()
    reader, read = frames.JobReader(far), []
    while not read or read[-1][1] is not None:
        read += reader.read()
    writer.join()
    near.close()
    far.close()
    assert read == [*enumerate(sent), (0, None)]


@given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 10), st.text(max_size=3000)), max_size=10),
       st.integers(1, 100))
def test_reports_arrive_as_they_were_sent(sent: list[tuple[int, int, str]], size: int) -> None:
    data = b''.join(frames.encode_report(frames.FINISHED, seq, kind, 0.5, 0.25, note) for seq, kind, note in sent)
    rest, read = b'', []
    for offset in range(0, len(data), size):
        reports, rest = frames.decode_reports(rest + data[offset:offset + size])
        read += reports
    assert rest == b''
    assert [(report.seq, report.kind, report.runtime, report.elapsed) for report in read] == [
        (seq, kind, 0.5, 0.25) for seq, kind, _ in sent]
    for report, (_, _, note) in zip(read, sent, strict=True):
        assert note.encode()[:frames.NOTE_LIMIT].decode('utf-8', 'replace') == report.note
