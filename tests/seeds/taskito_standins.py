"""What taskito's page leaves undefined."""

import os
import time

from canvaslite import Celery

queue = Celery('workflows', broker=os.environ['BROKER'], backend=os.environ['BACKEND'])

input_data, independent_data = ['input'], ['independent']
items = [[{'name': n}] for n in range(1000)]
urls = [f'https://limited.example.com/{n}' for n in range(12)]
data_sources = ['https://a.example.com/users', 'https://b.example.com/users', 'https://c.example.com/users']


class Requests:
    def get(self, url):
        note(1)
        time.sleep(0.2 if url in urls else 0)
        note(-1)
        return Answer(url)


def note(change):
    with open(os.environ['LOG'], 'a') as log:
        log.write(f'{time.time()} {change}\n')


class Answer:
    """A list of users, or one entry of a mapping."""

    def __init__(self, url):
        self.url = url

    def json(self):
        if self.url.endswith('users'):
            return [{'name': f'{self.url}/{n}'} for n in (1, 2)]
        return {self.url: 1}


class Db:
    def insert_many(self, names):
        return None


requests, db = Requests(), Db()


def fetch_and_process(item_id):
    return item_id * 10


@queue.task()
def step_a(data):
    return [*data, 'a']


@queue.task()
def step_b(data):
    return [*data, 'b']


@queue.task()
def step_c(data):
    return [*data, 'c']


@queue.task()
def merge_results(results):
    return sum(map(len, results))


