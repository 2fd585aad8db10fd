import type { JWTPayload } from 'jose'
import { audience } from '../issuer-double.ts'
import { read } from './shape.ts'

/** Signed by the issuer's own key, for the gateway's audience, and yet not access tokens; why, as the log says it. */
export const foreignTokens: {
  what: string
  header?: object
  payload: JWTPayload
  reason: RegExp | string
}[] = [
  {
    what: 'refresh token of Keycloak',
    payload: { typ: 'Refresh', azp: 'a', scope: read },
    reason: 'its typ is Refresh',
  },
  {
    what: 'typ in another case',
    payload: { typ: 'REFRESH', azp: 'a', scope: read },
    reason: 'its typ is REFRESH',
  },
  { what: 'ID token of Keycloak', payload: { typ: 'ID', azp: 'a', scope: read }, reason: 'its typ is ID' },
  {
    what: 'at+jwt around a refresh token',
    header: { typ: 'at+jwt' },
    payload: { typ: 'Refresh', azp: 'a', scope: read },
    reason: 'its typ is Refresh',
  },
  {
    what: 'typ that is no text',
    payload: { typ: ['Bearer', 'ID'], azp: 'a', scope: read },
    reason: 'its typ is Bearer,ID',
  },
  {
    what: 'token for a proof of possession',
    payload: { typ: 'DPoP', azp: 'a', scope: read },
    reason: 'its typ is DPoP',
  },
  {
    what: 'token_use',
    payload: { token_use: 'id', client_id: 'a', scope: read },
    reason: 'its token_use is id',
  },
  {
    what: 'token_type',
    payload: { token_type: 'refresh', client_id: 'a', scope: read },
    reason: 'its token_type is refresh',
  },
  {
    what: 'logout token',
    header: { typ: 'logout+jwt' },
    payload: { events: {}, scope: read },
    reason: 'typ logout+jwt',
  },
  {
    what: 'logout token without a type',
    header: { typ: undefined },
    payload: { events: {}, scope: read },
    reason: 'the claim events',
  },
  {
    what: 'security event',
    header: { typ: 'secevent+jwt' },
    payload: { scope: read },
    reason: 'typ secevent+jwt',
  },
  {
    what: 'client assertion',
    header: { typ: 'client-authentication+jwt' },
    payload: { scope: read },
    reason: /typ client-auth/,
  },
  { what: 'DPoP proof', header: { typ: 'dpop+jwt' }, payload: { scope: read }, reason: 'typ dpop+jwt' },
  {
    what: 'introspection response',
    header: { typ: 'token-introspection+jwt' },
    payload: { scope: read },
    reason: /typ token-/,
  },
  {
    what: 'ID token with nonce',
    payload: { nonce: 'x', azp: 'a', scope: read },
    reason: 'ID token: it has the claim nonce',
  },
  {
    what: 'ID token with at_hash',
    payload: { at_hash: 'x', azp: 'a', roles: [read] },
    reason: 'the claim at_hash',
  },
  {
    what: 'ID token with c_hash',
    payload: { c_hash: 'x', azp: 'a', roles: [read] },
    reason: 'the claim c_hash',
  },
  { what: 'bare ID token with roles', payload: { roles: [read] }, reason: 'seems to be an ID token' },
  {
    what: 'payload typ JWT, nonce',
    payload: { typ: 'JWT', nonce: 'x', azp: 'a', scope: read },
    reason: 'the claim nonce',
  },
  {
    what: 'another audience',
    payload: { aud: 'account', azp: 'a', scope: read },
    reason: 'its aud is account, and OAUTH_AUDIENCE requires',
  },
  {
    what: 'an audience that is no text',
    payload: { aud: { [audience]: true } as never, azp: 'a', scope: read },
    reason: 'its aud is missing',
  },
]
