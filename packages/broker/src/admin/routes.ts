import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { z } from "zod";
import type { Operations } from "../operations.ts";
import * as s from "./schemas.ts";

/** The routes under /v1. Each calls one operation. */
export function addRoutes(app: FastifyInstance, operations: Operations): void {
  const api = app.withTypeProvider<ZodTypeProvider>();

  api.get(
    "/v1/users",
    { schema: { ...about("users", "Users, in the order of their names", s.userPage), querystring: s.pageQuery } },
    async ({ query }) => operations.users(query.cursor, query.limit),
  );
  api.get(
    "/v1/users/:user",
    { schema: { ...about("users", "One user", s.userView), params: s.userParams } },
    async ({ params }) => operations.user(params.user),
  );
  api.post(
    "/v1/users/:user/disable",
    {
      schema: { ...about("users", "Ends the user's sessions and refuses further ones", s.done), params: s.userParams },
    },
    async ({ params }) => nothing(operations.setUserDisabled(params.user, true)),
  );
  api.post(
    "/v1/users/:user/enable",
    { schema: { ...about("users", "Lets the user log in again", s.done), params: s.userParams } },
    async ({ params }) => nothing(operations.setUserDisabled(params.user, false)),
  );
  api.delete(
    "/v1/users/:user",
    { schema: { ...about("users", "Deletes a user with all devices and services", s.done), params: s.userParams } },
    async ({ params }) => nothing(operations.deleteUser(params.user)),
  );

  api.post(
    "/v1/invites",
    {
      schema: {
        ...about("invites", "Makes an invite for devices of a user, or for ISTs", s.madeInvite),
        body: s.newInvite,
      },
    },
    async ({ body }) => {
      const { id, text, expires } = await operations.createInvite(body);
      return { id, invite: text, expires };
    },
  );
  api.get("/v1/invites", { schema: about("invites", "Invites that have not expired", s.inviteList) }, async () => ({
    items: await operations.invites(),
  }));
  api.delete(
    "/v1/invites/:id",
    { schema: { ...about("invites", "Revokes an invite", s.done), params: s.inviteParams } },
    async ({ params }) => nothing(operations.revokeInvite(params.id)),
  );

  api.get(
    "/v1/users/:user/devices",
    { schema: { ...about("devices", "Devices of a user", s.deviceList), params: s.userParams } },
    async ({ params }) => ({ items: operations.devices(params.user) }),
  );
  api.post(
    "/v1/users/:user/devices/:fingerprint/revoke",
    { schema: { ...about("devices", "Refuses a device's key for good", s.done), params: s.deviceParams } },
    async ({ params }) => nothing(operations.revokeDevice(params.user, params.fingerprint)),
  );

  api.get(
    "/v1/services",
    { schema: { ...about("services", "The whole directory", s.servicePage), querystring: s.pageQuery } },
    async ({ query }) => operations.services(query.cursor, query.limit),
  );
  api.delete(
    "/v1/services/:user/:service",
    {
      schema: {
        ...about("services", "Removes a service until its device declares it again", s.done),
        params: s.serviceParams,
      },
    },
    async ({ params }) => nothing(operations.removeService(params.user, params.service)),
  );

  api.get("/v1/ists", { schema: about("ists", "Registered ISTs with their load", s.istList) }, async () => ({
    items: operations.ists(),
  }));
  api.post(
    "/v1/ists/:fingerprint/disable",
    {
      schema: {
        ...about("ists", "Gives an IST no further allocations and refuses its logins", s.done),
        params: s.istParams,
      },
    },
    async ({ params }) => nothing(operations.setIstDisabled(params.fingerprint, true)),
  );
  api.post(
    "/v1/ists/:fingerprint/enable",
    { schema: { ...about("ists", "Lets an IST log in again", s.done), params: s.istParams } },
    async ({ params }) => nothing(operations.setIstDisabled(params.fingerprint, false)),
  );

  api.get(
    "/v1/sessions",
    {
      schema: {
        ...about("sessions", "Daemons that are logged in at this node", s.sessionPage),
        querystring: s.pageQuery,
      },
    },
    async ({ query }) => ({ total: operations.sessionCount, ...operations.sessions(query.cursor, query.limit) }),
  );
  api.get(
    "/v1/subscriptions",
    {
      schema: {
        ...about("subscriptions", "Living subscriptions that this node knows", s.subscriptionPage),
        querystring: s.pageQuery,
      },
    },
    async ({ query }) => ({
      total: operations.subscriptionCount,
      ...operations.subscriptions(query.cursor, query.limit),
    }),
  );
}

function about<R extends z.ZodType>(tag: string, summary: string, reply: R) {
  return { tags: [tag], summary, response: { 200: reply, default: s.failure } };
}

async function nothing(done: Promise<void>): Promise<Record<string, never>> {
  await done;
  return {};
}
