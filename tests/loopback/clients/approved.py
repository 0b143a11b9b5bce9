"""A client of the Python SDK that handles tasks, whose call of the tool `work` waits for approval.

Usage: approved.py URL

It prints the id of the task. It then asks about the task until it ends, makes the call again if it was approved, and prints what the
call has given, or the code of the error with which the task has ended.
"""

import logging
import sys
from typing import Literal

import anyio
from mcp.client import Client
from mcp.client.extension import ClientExtension, ResultClaim
from mcp_types import Request, RequestParams, Result
from pydantic import ConfigDict, Field

logging.disable(logging.CRITICAL)
APPROVAL_GIVEN = -31074


class Task(Result):
    result_type: Literal["task"] = Field(alias="resultType")
    task_id: str = Field(alias="taskId")


class TaskState(Result):
    model_config = ConfigDict(extra="allow")
    status: str


class GetTaskParams(RequestParams):
    task_id: str = Field(alias="taskId")


class GetTask(Request[GetTaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: GetTaskParams
    name_param = "taskId"


class TaskFailed(Exception):
    pass


async def resolve(task, context):
    print(task.task_id, flush=True)
    request = GetTask(params=GetTaskParams(taskId=task.task_id))
    while (state := await context.session.send_request(request, TaskState)).status == "working":
        # More often than the task says, because a test waits.
        await anyio.sleep(0.05)
    code = state.model_extra["error"]["code"]
    if code != APPROVAL_GIVEN:
        raise TaskFailed(code)
    return await context.session.call_tool(context.tool_name, {"ms": 1})


class Tasks(ClientExtension):
    identifier = "io.modelcontextprotocol/tasks"

    def claims(self):
        return [ResultClaim(result_type="task", model=Task, resolve=resolve)]


async def main(url):
    async with Client(url, extensions=[Tasks()]) as client:
        for _ in range(2):
            try:
                result = await client.call_tool("work", {"ms": 1})
                print(result.content[0].text, flush=True)
            except TaskFailed as error:
                print(error, flush=True)


anyio.run(main, sys.argv[1])
