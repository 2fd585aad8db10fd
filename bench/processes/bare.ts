import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { announce } from './listening.ts'

/** Fastify that listens and nothing else: the least that a start can take. */
const app = fastify()
await app.listen({ port: 0 })
announce((app.server.address() as AddressInfo).port)
