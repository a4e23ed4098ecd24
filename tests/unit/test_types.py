"""What a type checker knows of a program with tasks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('mypy')

PROGRAM = '''
from canvaslite import Celery, Task, shared_task, chain, group
from canvaslite.result import AsyncResult

app = Celery('typed', broker='amqp://', backend='rpc://')


@app.task
def add(x: int, y: int = 1) -> int:
    return x + y

@app.task(bind=True, max_retries=3)
def twice(self: Task, text: str, *, loud: bool = False) -> str:
    if self.request.retries > 2:
        raise self.retry(countdown=3)
    return text * 2

@app.task(name='named', acks_late=True)
def named(values: list[int]) -> None: ...

@shared_task
def shared(x: float) -> str:
    return str(x)

@shared_task(ignore_result=True)
def shared_with_options(x: float) -> None: ...

@app.task
async def wait(seconds: float) -> int:
    return 1

class Counting(Task):
    count = 0

    def run(self, step: int) -> int:
        return self.count + step

@app.task(base=Counting)
def counted(x: int) -> None: ...

async def use() -> int:
    return await wait(2.0)

# What is right.
reveal_type(add(1, 2))  # int
reveal_type(add.delay(1))  # AsyncResult[int]
reveal_type(add.delay(1, y=2).get(timeout=3))  # int
reveal_type(add.apply_async((1,), countdown=3, queue='x').get())  # int
reveal_type(add.apply((1,)).get())  # int
reveal_type(twice.delay('x', loud=True).get())  # str
reveal_type(shared.delay(1.5).get())  # str
reveal_type(wait.delay(1.5).get())  # int
reveal_type(counted.count)  # int
named.delay([1, 2])
shared_with_options.delay(2)
app.register_task(Counting()).delay(3)
chain(add.s(1), add.s(2)).delay().get()
(add.s(1, 2) | group(add.s(3), add.si(3, 4))).apply_async()
add.name, add.request.id, add.max_retries
found: AsyncResult[int] = add.AsyncResult('id')

# What is wrong.
add('a')  # wrong
add.delay('a')  # wrong
add.delay()  # wrong
add.delay(1, z=3)  # wrong
twice.delay(3)  # wrong
twice.delay('x', True)  # wrong
named.delay(3)  # wrong
shared.delay('a')  # wrong
shared_with_options.delay('a')  # wrong
wait.delay('a')  # wrong
length: str = add.delay(1).get()  # wrong
'''


def test_a_task_keeps_the_signature_of_its_function(tmp_path: Path) -> None:
    (tmp_path / 'program.py').write_text(PROGRAM)
    # As a user's mypy finds it, who has installed it: what is wrong in the package would be of no interest to him.
    (tmp_path / 'mypy.ini').write_text('[mypy]\nstrict = True\n[mypy-canvaslite.*]\nignore_errors = True\n')
    found = subprocess.run(
        [sys.executable, '-m', 'mypy', '--config-file', 'mypy.ini', '--cache-dir', str(tmp_path / 'cache'),
         'program.py'], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={'MYPYPATH': str(Path(__file__).parents[2]), 'PATH': '/usr/bin:/bin'})
    assert not found.stderr
    said: dict[int, str] = {}
    for line in found.stdout.splitlines():
        if match := re.match(r'program\.py:(\d+): (?:note: Revealed type is "(.*)"|error: (.*))', line):
            said[int(match[1])] = (match[2] or 'wrong').rpartition('canvaslite.result.async_result.')[2]
    expected = {number: line.rpartition('  # ')[2] for number, line in enumerate(PROGRAM.splitlines(), 1)
                if '  # ' in line}
    assert said == expected, found.stdout
