"""Awaits a judge for each completion."""

import asyncio


async def judge(completion):
    await asyncio.sleep(0)
    return float(len(completion))


async def reward(completions, **columns):
    return await asyncio.gather(*map(judge, completions))


def weighs(row, completion):
    return float(len(completion))
