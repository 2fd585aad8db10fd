import type { RequireScope } from '../http/guard.ts'
import type { Gateway } from '../publication/gateway.ts'
import type { Presenter } from './presentation.ts'

/** What the routes of videos are given. */
export interface RouteOptions {
  gateway: Gateway
  present: Presenter
  requireScope: RequireScope
}
