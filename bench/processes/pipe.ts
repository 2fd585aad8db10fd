import { createServer } from 'node:http'
import { request as send } from 'undici'
import { listen } from './listening.ts'

/** The least that Node can do between a caller and a platform: `http` in, undici out. */
const target = process.env.TARGET as string

const server = createServer(async (request, response) => {
  const length = request.headers['content-length']
  const answer = await send(target, {
    method: 'PUT',
    body: request,
    headers: { 'content-type': 'video/mp4', ...(length && { 'content-length': length }) },
  })
  await answer.body.dump()
  response.writeHead(204).end()
})

listen(server)
